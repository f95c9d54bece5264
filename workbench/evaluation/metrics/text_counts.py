"""Counts how generated texts end, and from how many nothing is extracted."""

from collections import Counter
from collections.abc import Iterable, Sequence

from workbench.evaluation.extraction.extract import INVALID
from workbench.evaluation.extraction.thoughts import ends_in_thought, opens_thought
from workbench.evaluation.records import Answer

TEXTS, STOP, LENGTH, IN_THOUGHT, UNEXTRACTED = "texts", "stop", "length", "in_thought", "unextracted"
THOUGHT_CUT = "thought_cut"
"""Keys of a Score's `texts`."""


def text_counts(texts: Iterable[tuple[str, Answer]]) -> dict[str, int]:
    """Return the counts of generated texts for a Score, all but `unextracted`; empty if there are none.

    `thought_cut` is among them where there is a thinking budget.

    Args:
        texts: prompt and answer of each item; answers without a text aren't counted.
    """
    counts: Counter[str] = Counter()
    for prompt, answer in texts:
        if answer.generation is None:
            continue
        counts[TEXTS] += 1
        if answer.finish_reason in (STOP, LENGTH):
            counts[answer.finish_reason] += 1
        if answer.thought_cut is not None:
            counts[THOUGHT_CUT] += answer.thought_cut
        counts[IN_THOUGHT] += ends_in_thought(answer.generation, opens_thought(prompt))
    keys = [TEXTS, STOP, LENGTH, IN_THOUGHT, *([THOUGHT_CUT] if THOUGHT_CUT in counts else [])]
    return {key: counts[key] for key in keys} if counts else {}


def open_ends(texts: Iterable[tuple[str, Answer]]) -> dict[str, int]:
    """Return finish reason -> number of generated texts that end within a thought; "" if it isn't known.

    Args:
        texts: prompt and answer of each item.
    """
    return Counter(
        answer.finish_reason or ""
        for prompt, answer in texts
        if answer.generation is not None and ends_in_thought(answer.generation, opens_thought(prompt))
    )


def num_unextracted(predictions: Sequence[object]) -> int:
    """Return from how many texts nothing was extracted, given what was extracted from each."""
    return sum(prediction in (None, "", INVALID) for prediction in predictions)
