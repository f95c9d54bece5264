"""Counts rows that are read, encoded, cut, dropped or changed, for the log and the run's report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.data.chat.saved_template import ChatForm
from workbench.data.tokens.control_tokens import ControlTokens, RowsWithToken, read_as_characters


@dataclass
class Account:
    """Counts of rows, examples and tokens, and of rows that were dropped or changed."""

    num_rows: int = 0
    """Rows that were read."""
    num_examples: int = 0
    """Rows of the data set: fewer than were read after dropping or packing, more after splitting texts."""
    num_tokens: int = 0
    num_trained: int = 0
    """Tokens with loss; for a classifier, examples."""
    num_cut: int = 0
    """Rows cut to `data.max_length`."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> number of dropped rows."""
    unwritten: Counter[str] = field(default_factory=Counter)
    """Field of a message -> number of rows that lose it, because the template doesn't write it."""
    classes: dict[str, int] = field(default_factory=dict)
    """Class -> number of its rows; for classifiers only."""
    noted: Counter[str] = field(default_factory=Counter)
    """Note (a predicate, as in `contain '<s>' ...`) -> number of rows that it is about."""
    control: dict[str, RowsWithToken] = field(default_factory=dict)
    """Control token -> rows whose text contains it, after begin and end tokens added twice are removed."""

    forms: dict[ChatForm, int] = field(default_factory=dict)
    """Chat template and end tokens -> number of rows rendered with them."""

    def add(self, other: "Account") -> None:
        """Add to this account the counts of another account, which counted other rows."""
        self.num_rows += other.num_rows
        self.num_examples += other.num_examples
        self.num_tokens += other.num_tokens
        self.num_trained += other.num_trained
        self.num_cut += other.num_cut
        self.dropped += other.dropped
        self.unwritten += other.unwritten
        self.noted += other.noted
        self.add_classes(other.classes)
        for token, rows_with_token in other.control.items():
            self.control.setdefault(token, RowsWithToken()).add(rows_with_token)
        for form, count in other.forms.items():
            self.forms[form] = self.forms.get(form, 0) + count

    def count_control(self, control: ControlTokens, texts: Sequence[str], where: str) -> None:
        """Add one row to the count in `control` of each control token that the row's texts contain.

        A token counts once, however often it occurs. For each control token of other tokenizers, which is
        read as plain characters, the row is counted in `noted`.

        Args:
            control: Control tokens of the rows' tokenizer.
            texts: The texts of the row.
            where: File and line of the row.
        """
        control.count(self.control, texts, where)
        self.noted.update(map(read_as_characters, control.foreign(texts)))

    def remarks(self) -> list[tuple[int, str]]:
        """Return a line for each count in `unwritten`, `noted` and `control`, as (number of rows, remark).

        For example (3, "lose 'name', which the template does not write").
        """
        return [
            *(
                (count, f"lose {name!r}, which the template does not write")
                for name, count in sorted(self.unwritten.items())
            ),
            *((count, note) for note, count in sorted(self.noted.items())),
            *(
                (places.count, f"contain the control token {token!r} in their text ({places})")
                for token, places in sorted(self.control.items())
            ),
        ]

    def add_classes(self, counts: Mapping[str, int]) -> None:
        """Add to `classes` the numbers of rows of each class."""
        for name, count in counts.items():
            self.classes[name] = self.classes.get(name, 0) + count

    def shown_classes(self) -> str:
        """Return the first thirty classes with their numbers of rows as text; "" without classes."""
        shown = [f"{name!r} {count:,}" for name, count in self.classes.items()]
        return ", ".join([*shown[:30], *[f"and {len(shown) - 30} more"][: len(shown) > 30]])

    def as_json(self) -> dict[str, Any]:
        """Return the counts as a dict of JSON values by attribute name.

        Instead of `forms` it has `ends`, the list of the end tokens of all chat forms.
        """
        control = {token: asdict(places) for token, places in sorted(self.control.items())}
        counts = {
            name: dict(sorted(getattr(self, name).items())) for name in ("dropped", "unwritten", "noted")
        }
        ends = list(dict.fromkeys(end for form in self.forms for end in form.ends))
        plain = {name: value for name, value in vars(self).items() if name != "forms"}
        return {**plain, **counts, "control": control, "ends": ends}

    def __str__(self) -> str:
        """Describe the account in one line for the log."""
        phrases = [f"{self.num_rows:,} rows", f"{self.num_examples:,} examples"]
        phrases += [f"{self.num_tokens:,} tokens", f"{self.num_trained:,} trained"]
        phrases += [f"{self.num_cut:,} cut"] if self.num_cut else []
        phrases += [f"{count:,} dropped ({reason})" for reason, count in sorted(self.dropped.items())]
        phrases += [f"{count:,} {remark}" for count, remark in self.remarks()]
        phrases += [f"classes {self.shown_classes()}"] if self.classes else []
        return ", ".join(phrases)
