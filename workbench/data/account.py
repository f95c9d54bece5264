"""The account of what became of a data set's rows on their way to token ids."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.data.chat.saved_template import ChatForm
from workbench.data.tokens.control_tokens import ControlTokens, Places, read_as_characters

UNWRITTEN = "where the template does not write"
"""What is said, before its name, of a part of a row that is lost."""


@dataclass
class Account:
    """What became of the rows."""

    num_rows: int = 0
    """Rows read."""
    num_examples: int = 0
    """Rows of the data set: fewer where rows were dropped or packed, more where texts fell into pieces."""
    num_tokens: int = 0
    num_trained: int = 0
    """Tokens that a loss falls on; for a classifier, examples."""
    num_cut: int = 0
    """Rows cut to `data.max_length`."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason."""
    unwritten: Counter[str] = field(default_factory=Counter)
    """Rows that lost a column or a part of a message, because the template doesn't write it, by its name."""
    classes: dict[str, int] = field(default_factory=dict)
    """Of a classifier: class -> rows of it."""
    noted: Counter[str] = field(default_factory=Counter)
    """Rows in which something was put right or left unread, by what it was."""
    control: dict[str, Places] = field(default_factory=dict)
    """Control token -> rows that hold it in their own text, those left out that were written once."""

    forms: dict[ChatForm, int] = field(default_factory=dict)
    """Rows by the way in which their turns were written."""

    def add(self, other: "Account") -> None:
        """Count further rows in."""
        self.num_rows += other.num_rows
        self.num_examples += other.num_examples
        self.num_tokens += other.num_tokens
        self.num_trained += other.num_trained
        self.num_cut += other.num_cut
        self.dropped += other.dropped
        self.unwritten += other.unwritten
        self.noted += other.noted
        self.add_classes(other.classes)
        for token, places in other.control.items():
            self.control.setdefault(token, Places()).add(places)
        for form, count in other.forms.items():
            self.forms[form] = self.forms.get(form, 0) + count

    def count_control(self, control: ControlTokens, texts: Sequence[str], where: str) -> None:
        """Count the control tokens in a row's own text."""
        control.count(self.control, texts, where)
        self.noted.update(map(read_as_characters, control.foreign(texts)))

    def remarks(self) -> list[tuple[int, str]]:
        """Numbers of rows that were not dropped, and what is to be said of these rows."""
        return [
            *((count, f"{UNWRITTEN} {name!r}") for name, count in sorted(self.unwritten.items())),
            *((count, note) for note, count in sorted(self.noted.items())),
            *(
                (places.count, f"hold the control token {token!r} in their own text ({places})")
                for token, places in sorted(self.control.items())
            ),
        ]

    def add_classes(self, counts: Mapping[str, int]) -> None:
        """Count further rows of classes in."""
        for name, count in counts.items():
            self.classes[name] = self.classes.get(name, 0) + count

    def shown_classes(self) -> str:
        """The classes with their rows, the first thirty of them."""
        shown = [f"{name!r} {count:,}" for name, count in self.classes.items()]
        return ", ".join([*shown[:30], *[f"and {len(shown) - 30} more"][: len(shown) > 30]])

    def as_json(self) -> dict[str, Any]:
        """The account for a file."""
        control = {token: asdict(places) for token, places in sorted(self.control.items())}
        counts = {
            name: dict(sorted(getattr(self, name).items())) for name in ("dropped", "unwritten", "noted")
        }
        ends = list(dict.fromkeys(end for form in self.forms for end in form.ends))
        plain = {name: value for name, value in vars(self).items() if name != "forms"}
        return {**plain, **counts, "control": control, "ends": ends}

    def __str__(self) -> str:
        """One line for the terminal."""
        parts = [f"{self.num_rows:,} rows", f"{self.num_examples:,} examples"]
        parts += [f"{self.num_tokens:,} tokens", f"{self.num_trained:,} trained"]
        parts += [f"{self.num_cut:,} cut"] if self.num_cut else []
        parts += [f"{count:,} dropped ({reason})" for reason, count in sorted(self.dropped.items())]
        parts += [f"{count:,} {remark}" for count, remark in self.remarks()]
        parts += [f"classes {self.shown_classes()}"] if self.classes else []
        return ", ".join(parts)
