"""What a run is about to be trained on, for human eyes, before it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from workbench.data.account import Account
from workbench.data.encoded import Encoded
from workbench.data.rows import Row
from workbench.labels import IGNORED
from workbench.shown import clean

NUM_BINS = 8
BAR_WIDTH = 30
SHOWN_CHARACTERS = 600
SHOWN_CLASSES = 30


@dataclass(frozen=True)
class DataReport:
    """Counts of the training rows, their lengths, and one of them as the model will see it."""

    account: Account
    num_duplicates: int | None
    """Rows that say the same as an earlier one, column by column; None: not counted, as rows are streamed."""
    histogram: tuple[tuple[int, int, int], ...]
    """First and last length in tokens, and the examples of such a length."""
    example: tuple[tuple[str, bool], ...]
    """The text of the example of middle length, in runs that are trained or not."""
    where: str
    """The file and line of that example."""

    def __rich__(self) -> RenderableType:
        """A table, the lengths, and the example with its trained part in colour."""
        return Group(self.counts(), self.lengths(), Text(f"an example, {clean(self.where)}:"), self.text())

    def counts(self) -> RenderableType:
        """The numbers, one a line, without those that are zero."""
        account = self.account
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right")
        for number, words in (
            (account.num_rows, "rows"),
            (self.num_duplicates, "of them say the same as an earlier one"),
            *((count, f"dropped: {reason}") for reason, count in sorted(account.dropped.items())),
            *account.remarks(),
            *((count, f"of class {name!r}") for name, count in list(account.classes.items())[:SHOWN_CLASSES]),
            (account.num_cut, "cut to data.max_length"),
            (account.num_examples, "examples"),
            (account.num_tokens, "tokens"),
            (account.num_trained, f"trained ({self.trained_share():.0%} of them)"),
        ):
            if number:
                table.add_row(f"{number:,}", clean(words))
        if len(account.classes) > SHOWN_CLASSES:
            table.add_row("", f"(and {len(account.classes) - SHOWN_CLASSES} more classes)")
        if empty := [name for name, count in account.classes.items() if not count]:
            table.add_row("0", f"of the classes {', '.join(map(repr, empty[:SHOWN_CLASSES]))}")
        if self.num_duplicates is None:
            table.add_row("", "(equal rows are not looked for with data.streaming)")
        return table

    def trained_share(self) -> float:
        """Of tokens; for a classifier, of examples."""
        whole = self.account.num_tokens if self.counts_tokens() else self.account.num_examples
        return self.account.num_trained / whole

    def counts_tokens(self) -> bool:
        """Whether the loss falls on tokens, and not on whole examples."""
        return any(trained for _, trained in self.example)

    def lengths(self) -> RenderableType:
        """The histogram as bars."""
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right")
        most = max(count for _, _, count in self.histogram)
        for first, last, count in self.histogram:
            bar = "█" * round(BAR_WIDTH * count / most)
            table.add_row(f"{first:,} to {last:,} tokens", f"{bar} {count:,}")
        return table

    def text(self) -> Text:
        """The example; what is trained is green, what is only read is dim."""
        text = Text(overflow="fold")
        for words, trained in self.example:
            text.append(clean(words), "green" if trained else "dim")
        if len(text) > SHOWN_CHARACTERS:
            text.truncate(SHOWN_CHARACTERS)
            text.append(" ...")
        return text


def data_report(encoded: Encoded, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> DataReport:
    """The report on rows and on the data set that they became; no rows: they are streamed."""
    lengths = list(encoded.dataset["length"])
    different = {row.content() for row in rows}
    middle = sorted(range(len(lengths)), key=lambda number: lengths[number])[len(lengths) // 2]
    example = encoded.dataset[middle]
    return DataReport(
        account=encoded.account,
        num_duplicates=len(rows) - len(different) if rows else None,
        histogram=length_histogram(lengths),
        example=tuple(runs(example["input_ids"], example["labels"], tokenizer)),
        where=example["where"],
    )


def length_histogram(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Bins of equal width from the shortest to the longest."""
    shortest, longest = min(lengths), max(lengths)
    width = -(-(longest - shortest + 1) // NUM_BINS)
    starts = range(shortest, longest + 1, width)
    return tuple(
        (start, min(start + width - 1, longest), sum(start <= n < start + width for n in lengths))
        for start in starts
    )


def runs(
    input_ids: Sequence[int], labels: Sequence[int] | float, tokenizer: PreTrainedTokenizerBase
) -> list[tuple[str, bool]]:
    """The text in runs of tokens that are all trained or all not."""
    each = [IGNORED] * len(input_ids) if isinstance(labels, int | float) else labels
    trained = [label != IGNORED for label in each]
    pairs = groupby(zip(input_ids, trained, strict=True), key=lambda pair: pair[1])
    return [(str(tokenizer.decode([token for token, _ in group])), key) for key, group in pairs]
