"""Holds rows out of training for validation, so that no question of a held-out row is trained on."""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.config.data import DataConfig, DataFormat
from workbench.config.model import Task
from workbench.data.classification import labelled_text
from workbench.data.contamination.normalize import normalized
from workbench.data.conversations import conversation
from workbench.data.formats import row_format, text
from workbench.data.readers.row_store import by_source, concatenate, select
from workbench.data.rows import Row, split_rows

SHARE, FEWEST, MOST = 0.05, 20, 500
"""Share of the rows that is held out by default, and the smallest and largest number of rows."""

ROWS_NEEDED = 200
"""With fewer rows, none are held out by default, because training needs all of them."""

A_FIFTH = "data.validation_fraction=0.2 holds out a fifth"


@dataclass(frozen=True)
class HoldOut:
    """The rows to train on and the rows that are held out, both in the order of the data."""

    training: Sequence[Row]
    held_out: Sequence[Row]
    num_near: int = 0
    """Number of rows in neither part, because a training row has the same or nearly the same prompt."""
    num_begun: int = 0
    """Number of held-out rows that share a prompt with training rows: one too common to tie rows together."""
    reason: str = ""
    """Why no row is held out although `data.validation_fraction` is not set to 0; else empty."""

    def __str__(self) -> str:
        """Describe the split in one line for the log; empty if the user set the fraction to 0."""
        if not self.held_out and not self.num_near:
            return self.reason and f"no rows are held out, {self.reason}"
        near = f"; {self.num_near:,} more left out, as a training row asks the same or nearly the same"
        begun = f"; {self.num_begun:,} of them begin with a question that training rows ask, too"
        return (
            f"{len(self.held_out):,} of {len(self.training) + len(self.held_out) + self.num_near:,} rows are "
            f"held out of training{near if self.num_near else ''}{begun if self.num_begun else ''}"
        )


def hold_out(rows: Sequence[Row], data: DataConfig, task: Task) -> HoldOut:
    """Split rows into training and held-out rows, so that no prompt of a held-out row is trained on.

    With `data.validation_fraction=None` 5% are held out, at least 20 and at most 500, and none of fewer than
    `ROWS_NEEDED` rows. Rows whose prompts are equal after `normal_form` stay in one part. So do conversations
    that share an earlier prompt, unless more rows share it than are held out.
    A fraction draws this share of the different rows; drawn rows whose prompt a training row shares are in
    neither part. With 0, no row is held out.

    The split depends on the rows alone, not on a seed, so that a run that continues from the adapter of
    another run holds out the same rows.

    Raises:
        DataError: A row can't be read, or there are too few rows for the fraction.
    """
    if data.validation_fraction == 0:
        return HoldOut(rows, [])
    if data.validation_fraction is None:
        return hold_out_by_prompt(rows, data, task)
    training, drawn_rows = split_rows(rows, data.validation_fraction)
    keys = prompt_keys(concatenate(training, drawn_rows), data, task)
    common = common_keys(keys, len(drawn_rows))
    training_keys = {key for row_keys in keys[: len(training)] for key in row_keys}
    drawn_keys = keys[len(training) :]
    unseen = [
        number
        for number, row_keys in enumerate(drawn_keys)
        if not training_keys.intersection(binding(row_keys, common))
    ]
    begun = sum(bool(training_keys.intersection(drawn_keys[number])) for number in unseen)
    held_out = select(drawn_rows, unseen)
    return HoldOut(training, held_out, num_near=len(drawn_rows) - len(held_out), num_begun=begun)


def hold_out_by_prompt(rows: Sequence[Row], data: DataConfig, task: Task) -> HoldOut:
    """Hold out at most 5% of the rows (at least 20, at most 500); rows tied by a prompt stay in one part.

    Fewer are held out if the groups of `tied_rows` are too large; none of fewer than ROWS_NEEDED rows. The
    choice doesn't depend on the order of the rows.

    Raises:
        DataError: A row can't be read.
    """
    if len(rows) < ROWS_NEEDED:
        reason = f"there are only {len(rows):,} (of {ROWS_NEEDED} or more, 5% are; {A_FIFTH})"
        return HoldOut(rows, [], reason=reason)
    wanted = min(MOST, max(FEWEST, round(SHARE * len(rows))))
    keys = prompt_keys(rows, data, task)
    groups = tied_rows(keys, common_keys(keys, wanted))
    taken: set[int] = set()
    for group in sorted(groups, key=lambda group: min(drawn(keys[number][-1]) for number in group)):
        if len(taken) + len(group) <= wanted:
            taken.update(group)
    if not taken:
        reason = f"they have only {len(groups):,} different prompts ({A_FIFTH})"
        return HoldOut(rows, [], reason=reason)
    asked = {key for number, row_keys in enumerate(keys) if number not in taken for key in row_keys}
    begun = sum(bool(asked.intersection(keys[number])) for number in taken)
    others = [number for number in range(len(rows)) if number not in taken]
    return HoldOut(select(rows, others), select(rows, sorted(taken)), num_begun=begun)


def common_keys(keys: Sequence[Sequence[str]], most: int) -> set[str]:
    """Return the normalized prompts that more than `most` rows share, such as greetings and fixed openings.

    Args:
        keys: For each row its normalized prompts, from `prompt_keys`.
        most: Largest number of rows that may share a prompt without making it common.
    """
    counts = Counter(key for row_keys in keys for key in set(row_keys))
    return {key for key, count in counts.items() if count > most}


def binding(row_keys: Sequence[str], common: set[str]) -> list[str]:
    """Return the prompts of a row that tie it to other rows: those that aren't in `common`, and its last.

    Args:
        row_keys: The row's normalized prompts, in order.
        common: Normalized prompts that too many rows share.
    """
    return [*(key for key in row_keys[:-1] if key not in common), row_keys[-1]]


def tied_rows(keys: Sequence[Sequence[str]], common: set[str]) -> list[list[int]]:
    """Group the indices of rows that share a prompt of `binding`, directly or through other rows.

    Each index is in exactly one group.

    Source: the connected components of a graph, found by union-find.

    Args:
        keys: For each row its normalized prompts, from `prompt_keys`.
        common: Normalized prompts that too many rows share; as earlier prompts they tie no rows.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for row_keys in keys:
        for key in binding(row_keys, common):
            parent[root(key)] = root(row_keys[-1])
    groups: dict[str, list[int]] = defaultdict(list)
    for number, row_keys in enumerate(keys):
        groups[root(row_keys[-1])].append(number)
    return list(groups.values())


def drawn(key: str) -> bytes:
    """Return the SHA-256 of a normalized prompt: the sort key of a pseudorandom, reproducible order."""
    return hashlib.sha256(f"held out {key}".encode()).digest()


def prompt_keys(rows: Sequence[Row], data: DataConfig, task: Task) -> list[list[str]]:
    """Return for each row the `normal_form` of its prompts (at least one) from `prompt_texts`, in order.

    Raises:
        DataError: A row can't be read.
    """
    keys: list[list[str]] = []
    for source, some in by_source(rows):
        shape = row_format(some[0], data.of_source(source), task)
        keys += [[normal_form(prompt) for prompt in prompt_texts(row, shape)] for row in some]
    return keys


def prompt_texts(row: Row, shape: DataFormat) -> list[str]:
    """Return, for each trained answer of a row, all turns before it as one text; the last answer comes last.

    A row of plain text, or of text to be classified, gives its full text as the only prompt.

    Raises:
        DataError: The row can't be read.
    """
    if shape is DataFormat["labelled"]:
        return ["\n".join(labelled_text(row, answered=False).texts)]
    if shape is DataFormat["text"]:
        return [text(row, "text")]
    turns = conversation(row, shape, answered=False).turns
    answers = [number for number, turn in enumerate(turns) if turn.trained]
    return ["\n".join(turn.text for turn in turns[:end]) for end in (*answers, len(turns))]


def normal_form(prompt: str) -> str:
    """Remove white space and punctuation from a prompt and normalize width and case; signs of numbers remain.

    So "What is 3-4?" equals "what is 3 - 4", and "What is 3/4?" is a different question. A text of nothing
    but punctuation remains as it is.
    """
    plain = normalized(prompt)
    without_punctuation = [
        character
        for character, following in zip(plain, [*plain[1:], ""], strict=True)
        if character == "%" or following.isdigit() or not unicodedata.category(character).startswith("P")
    ]
    return "".join(without_punctuation) or plain
