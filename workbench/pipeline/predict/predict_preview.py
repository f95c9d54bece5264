"""The first answers of the predict step, for the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from workbench.shown import clean

SHOWN = 5
"""Answers on the terminal; all are in the file."""

LONGEST = 120
"""Characters of a text that are shown."""


def show(answers: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Print the first answers, the classes with their counts, and where the rest is.

    Args:
        answers: `asked` (the text or prompt) and `answer`, or `label` and `probabilities`, or `value`.
        output: the file that holds all of them.
    """
    Console(soft_wrap=True).print(rendered(answers, output))


def rendered(answers: Sequence[Mapping[str, Any]], output: Path) -> RenderableType:
    """What `show` prints."""
    table = Table.grid(padding=(0, 2))
    for answer in answers[:SHOWN]:
        table.add_row(shortened(str(answer["asked"]), from_end=True), in_words(answer))
    parts: list[RenderableType] = [table]
    counts = Counter(str(answer["label"]) for answer in answers if "label" in answer)
    if counts:
        parts.append(Text(", ".join(f"{clean(name)} {count:,}" for name, count in counts.most_common())))
    if len(answers) > SHOWN:
        parts.append(Text(f"... and {len(answers) - SHOWN:,} more in {clean(str(output))}", style="dim"))
    return Group(*parts)


def in_words(answer: Mapping[str, Any]) -> Text:
    """What a model said to a text: its answer, or the class with its probability, or the number."""
    if "answer" in answer:
        return Text(shortened(str(answer["answer"])) or "(empty)", style="green")
    if "label" in answer:
        label = str(answer["label"])
        return Text(f"{clean(label)} {100 * answer['probabilities'][label]:.1f}%", style="green")
    return Text(f"{answer['value']:g}", style="green")


def shortened(text: str, *, from_end: bool = False) -> str:
    """A text on one line, its beginning or its end where it is long."""
    line = " ".join(clean(text).split())
    if len(line) <= LONGEST:
        return line
    return f"…{line[-LONGEST:]}" if from_end else f"{line[:LONGEST]}…"
