"""Lettered questions asked with their options in several orders: a liking for a letter cancels out."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.benchmarks.option_letters import moved, texts_of, with_texts
from workbench.evaluation.records import Answer, Example


def rotated(row: Row, options: Sequence[str], shift: int, letters: Sequence[str]) -> Row:
    """The row with its options moved on by `shift` letters: option k then stands at letter k + shift.

    Args:
        row: a question.
        options: the columns that hold the options, or one column that holds a list of them.
        shift: how many letters.
        letters: of the options; a text that begins with its letter gets that of its new place.

    Raises:
        DataError: a column is missing.
    """
    texts = moved(texts_of(row, options), shift, letters)
    return with_texts(row, options, texts)


def combined(answers: Sequence[Answer]) -> Answer:
    """One answer from those to the same question with its options moved on by 0, 1, 2, ... letters.

    The log-probability of each option among the options, averaged over the orders, and so for its letters'
    log-likelihoods after the unconditional prompt.
    """
    if len(answers) == 1:
        return answers[0]
    shares = [_log_shares(answer.loglikelihoods) for answer in answers]
    free = [answer.unconditional for answer in answers]
    return replace(answers[0], loglikelihoods=_by_option(shares), unconditional=_by_option(free))


def _by_option(values: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Mean over the orders of what each option had, from what each letter had."""
    count = len(values[0])
    return tuple(
        math.fsum(order[(option + shift) % count] for shift, order in enumerate(values)) / len(values)
        for option in range(count)
    )


def _log_shares(values: Sequence[float]) -> list[float]:
    top = max(values)
    total = top + math.log(math.fsum(math.exp(value - top) for value in values))
    return [value - total for value in values]


def letters(example: Example, answers: Sequence[Answer]) -> Counter[str]:
    """How often each letter is the likeliest one over all orders of a question's options."""
    found: Counter[str] = Counter()
    for answer in answers:
        found[example.choices[answer.loglikelihoods.index(max(answer.loglikelihoods))]] += 1
    return found
