"""Rows held out of training: chosen by their prompts, so that no held-out question is trained on."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from workbench.config.data import DataConfig, DataFormat
from workbench.config.model import Task
from workbench.data.contamination import normalized
from workbench.data.formats import row_format, text
from workbench.data.instruction import conversation
from workbench.data.labelled import labelled_text
from workbench.data.rows import Row, split_rows

SHARE, FEWEST, MOST = 0.05, 20, 500
"""Of the rows, where `data.validation_fraction` is not given, and the least and the most of them."""

ROWS_NEEDED = 200
"""With fewer rows none are held out by themselves: training needs them more."""


@dataclass(frozen=True)
class HoldOut:
    """The rows to train on and the rows held out, both in their order."""

    training: list[Row]
    held_out: list[Row]
    num_near: int = 0
    """Rows left out of both sides, because a training row asks (nearly) the same."""
    reason: str = ""
    """Why no row is held out, where `data.validation_fraction` is not given."""

    def __str__(self) -> str:
        """One line for the terminal; empty where none were asked for."""
        if not self.held_out and not self.num_near:
            return self.reason and f"no rows are held out, {self.reason}"
        near = f"; {self.num_near:,} more left out, as a training row asks the same or nearly the same"
        return (
            f"{len(self.held_out):,} of {len(self.training) + len(self.held_out) + self.num_near:,} rows are "
            f"held out of training{near if self.num_near else ''}"
        )


def hold_out(rows: Sequence[Row], data: DataConfig, task: Task, seed: int) -> HoldOut:
    """Hold out `data.validation_fraction` of the rows; where it is None, 5%, at least 20 and at most 500.

    Prompts that are equal but for case, width, white space and punctuation come to one side. With a fraction
    given, equal rows do, and held-out rows whose prompt a training row shares are left out.

    Raises:
        DataError: a row that can't be read, or too few rows for the fraction.
    """
    if data.validation_fraction == 0:
        return HoldOut(list(rows), [])
    if data.validation_fraction is None:
        return hold_out_by_prompt(rows, data, task, seed)
    training, chosen = split_rows(rows, data.validation_fraction, seed)
    asked = set(prompt_keys(training, data, task))
    keys = prompt_keys(chosen, data, task)
    held_out = [row for row, key in zip(chosen, keys, strict=True) if key not in asked]
    return HoldOut(training, held_out, num_near=len(chosen) - len(held_out))


def hold_out_by_prompt(rows: Sequence[Row], data: DataConfig, task: Task, seed: int) -> HoldOut:
    """Hold out 5% of the rows, whole groups of one prompt each, whatever the order of the rows."""
    if len(rows) < ROWS_NEEDED:
        reason = f"there are only {len(rows):,} (at least {ROWS_NEEDED}, or give data.validation_fraction)"
        return HoldOut(list(rows), [], reason=reason)
    groups: dict[str, list[int]] = defaultdict(list)
    for number, key in enumerate(prompt_keys(rows, data, task)):
        groups[key].append(number)
    wanted = min(MOST, max(FEWEST, round(SHARE * len(rows))))
    chosen: set[int] = set()
    for key in sorted(groups, key=lambda key: drawn(key, seed)):
        if len(chosen) + len(groups[key]) <= wanted:
            chosen.update(groups[key])
    if not chosen:
        reason = f"they have only {len(groups):,} different prompts (give data.validation_fraction)"
        return HoldOut(list(rows), [], reason=reason)
    sides: tuple[list[Row], list[Row]] = ([], [])
    for number, row in enumerate(rows):
        sides[number in chosen].append(row)
    return HoldOut(*sides)


def drawn(key: str, seed: int) -> bytes:
    """The place of a prompt in a random order that depends on the prompt and the seed alone."""
    return hashlib.sha256(f"{seed} {key}".encode()).digest()


def prompt_keys(rows: Sequence[Row], data: DataConfig, task: Task) -> list[str]:
    """The normal form of each row's prompt: all that stands before its last answer, or its text."""
    keys: list[str] = []
    for source, part in groupby(rows, key=lambda row: row.source):
        some = list(part)
        shape = row_format(some[0], data.of_source(source), task)
        keys += [normal_form("\n".join(prompt_texts(row, shape))) for row in some]
    return keys


def prompt_texts(row: Row, shape: DataFormat) -> Iterator[str]:
    """The texts that a row's answer follows from."""
    if shape is DataFormat["labelled"]:
        yield from labelled_text(row, answered=False).texts
    elif shape is DataFormat["text"]:
        yield text(row, "text")
    else:
        yield from (turn.text for turn in conversation(row, shape, answered=False).turns)


def normal_form(words: str) -> str:
    """A text without white space and punctuation, in one width and case; what belongs to a number stays.

    So "What is 3-4?" and "what is 3 - 4" are alike, and "What is 3/4?" is another question. A text of nothing
    but punctuation stays as it is.
    """
    plain = normalized(words)
    kept = [
        sign
        for sign, following in zip(plain, [*plain[1:], ""], strict=True)
        if sign == "%" or following.isdigit() or not unicodedata.category(sign).startswith("P")
    ]
    return "".join(kept) or plain
