"""Builds the report on the training data that the terminal shows: counts, lengths and one example."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from workbench.config.names import IGNORED
from workbench.data.encoded import Encoded
from workbench.data.row_counts import Account
from workbench.data.rows import Row
from workbench.shown import clean

NUM_BINS = 8
BAR_WIDTH = 30
SHOWN_CHARACTERS = 600
SHOWN_CLASSES = 30


@dataclass(frozen=True)
class DataReport:
    """Counts and lengths of the training examples, and one example with its loss mask."""

    account: Account
    num_duplicates: int | None
    """Rows that equal an earlier row in all columns; None: not counted, because rows are streamed."""
    histogram: tuple[tuple[int, int, int], ...]
    """For each bin of lengths: its shortest length in tokens, its longest, and the number of examples."""
    example: tuple[tuple[str, bool], ...]
    """The example of median length as spans of decoded text, each with whether it carries loss."""
    where: str
    """File and line of the row that `example` was encoded from."""

    def __rich__(self) -> RenderableType:
        """Return the report for the terminal: counts, lengths, and the example with its answers in color."""
        return Group(self.counts(), self.lengths(), Text(f"an example, {clean(self.where)}:"), self.text())

    def counts(self) -> RenderableType:
        """Return a table with a line for each count that isn't zero, and one for the classes without rows."""
        account = self.account
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right")
        for number, caption in (
            (account.num_rows, "rows"),
            (self.num_duplicates, "of them are duplicates of an earlier row"),
            *((count, f"dropped: {reason}") for reason, count in sorted(account.dropped.items())),
            *account.remarks(),
            *((count, f"of class {name!r}") for name, count in list(account.classes.items())[:SHOWN_CLASSES]),
            (account.num_cut, "cut to data.max_length"),
            (account.num_examples, "examples"),
            (account.num_tokens, "tokens"),
            (account.num_trained, f"trained ({self.trained_share():.0%} of {self.trained_unit()})"),
        ):
            if number:
                table.add_row(f"{number:,}", Text(clean(caption)))
        if len(account.classes) > SHOWN_CLASSES:
            table.add_row("", f"(and {len(account.classes) - SHOWN_CLASSES} more classes)")
        if empty := [name for name, count in account.classes.items() if not count]:
            table.add_row("0", Text(f"of the classes {', '.join(map(repr, empty[:SHOWN_CLASSES]))}"))
        if self.num_duplicates is None:
            table.add_row("", "(duplicates are not counted with data.streaming)")
        return table

    def trained_share(self) -> float:
        """Return the share of tokens that carry loss; for a classifier, the share of examples."""
        total = self.account.num_tokens if self.counts_tokens() else self.account.num_examples
        return self.account.num_trained / total

    def trained_unit(self) -> str:
        """Return the unit of `trained_share`: "the tokens" or, for a classifier, "the examples"."""
        return "the tokens" if self.counts_tokens() else "the examples"

    def counts_tokens(self) -> bool:
        """Return whether labels belong to tokens (a causal model), not to examples (a classifier)."""
        return any(trained for _, trained in self.example)

    def lengths(self) -> RenderableType:
        """Return a table with the histogram of lengths as bars."""
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right")
        most = max(count for _, _, count in self.histogram)
        for first, last, count in self.histogram:
            bar = "█" * round(BAR_WIDTH * count / most)
            lengths = f"{first:,}" if first == last else f"{first:,} to {last:,}"
            table.add_row(f"{lengths} tokens", f"{bar} {count:,}")
        return table

    def text(self) -> Text:
        """Return the example's first 600 characters in color: spans with loss are green, other spans dim."""
        text = Text(overflow="fold")
        for span, trained in self.example:
            text.append(clean(span), "green" if trained else "dim")
        if len(text) > SHOWN_CHARACTERS:
            text.truncate(SHOWN_CHARACTERS)
            text.append(" ...")
        return text


def data_report(encoded: Encoded, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> DataReport:
    """Build the report on rows and on the data set encoded from them.

    If `rows` is empty, as for streamed data, duplicates aren't counted.
    """
    lengths = list(encoded.dataset["length"])
    distinct = {row.content() for row in rows}
    median = sorted(range(len(lengths)), key=lambda index: lengths[index])[len(lengths) // 2]
    example = encoded.dataset[median]
    return DataReport(
        account=encoded.account,
        num_duplicates=len(rows) - len(distinct) if rows else None,
        histogram=length_histogram(lengths),
        example=tuple(runs(example["input_ids"], example["labels"], tokenizer)),
        where=example["where"],
    )


def length_histogram(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Count lengths (at least one) in at most eight bins of equal width.

    Returns (shortest length of the bin, longest, number of examples) for each bin, empty bins too.
    """
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
    """Decode an example into (text, whether it carries loss) for each run of tokens with or without loss.

    An example of a classifier is one span without loss.
    """
    token_labels = [IGNORED] * len(input_ids) if isinstance(labels, int | float) else labels
    trained = [label != IGNORED for label in token_labels]
    pairs = groupby(zip(input_ids, trained, strict=True), key=lambda pair: pair[1])
    return [(str(tokenizer.decode([token for token, _ in group])), key) for key, group in pairs]
