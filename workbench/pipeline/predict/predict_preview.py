"""Prints the first answers of the predict step."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workbench.shown import clean
from workbench.wrapping import plain_console

FINISH_REASON, CUT = "finish_reason", "length"
"""Column with the reason why an answer ends, and its value for an answer that the token limit cut."""

MOST_ANSWERS = 5
"""Largest number of answers that are printed; the file has all."""

MOST_CHARACTERS = 120
"""Largest number of characters of a text that are printed."""


def show(answers: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Print the first answers, the number of answers per class, and the file of all answers.

    Args:
        answers: For each row `asked` (the text or prompt), and the columns of `answer_columns`.
        output: The file of all answers.
    """
    plain_console(soft_wrap=True).print(rendered(answers, output))


def rendered(answers: Sequence[Mapping[str, Any]], output: Path) -> RenderableType:
    """Return what `show` prints: the first answers, the number per class, and the file if it has more."""
    table = Table.grid(padding=(0, 2))
    for answer in answers[:MOST_ANSWERS]:
        table.add_row(shortened(str(answer["asked"]), from_end=True), answer_text(answer))
    blocks: list[RenderableType] = [table]
    counts = Counter(str(answer["label"]) for answer in answers if "label" in answer)
    if counts:
        blocks.append(Text(", ".join(f"{clean(name)} {count:,}" for name, count in counts.most_common())))
    if len(answers) > MOST_ANSWERS:
        num_more = len(answers) - MOST_ANSWERS
        blocks.append(Text(f"... and {num_more:,} more in {clean(str(output))}", style="dim"))
    return Group(*blocks)


def answer_text(answer: Mapping[str, Any]) -> Text:
    """Return an answer for the terminal: generated text, the class with its probability, or the number."""
    if "answer" in answer:
        text = Text(shortened(str(answer["answer"])) or "(empty)", style="green")
        return text.append(" (cut)", style="dim") if answer.get(FINISH_REASON) == CUT else text
    if "label" in answer:
        label = str(answer["label"])
        return Text(f"{clean(label)} {100 * answer['probabilities'][label]:.1f}%", style="green")
    return Text(f"{answer['value']:g}", style="green")


def shortened(text: str, *, from_end: bool = False) -> str:
    """Return a text on one line, cut to its first or (`from_end`) last `MOST_CHARACTERS`."""
    line = " ".join(clean(text).split())
    if len(line) <= MOST_CHARACTERS:
        return line
    return f"…{line[-MOST_CHARACTERS:]}" if from_end else f"{line[:MOST_CHARACTERS]}…"
