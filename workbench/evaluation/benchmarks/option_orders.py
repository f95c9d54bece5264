"""Asks lettered questions with their options in several orders, to cancel a preference for a letter."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.benchmarks.option_letters import moved, texts_of, with_texts
from workbench.evaluation.records import Answer, Example


def rotated(row: Row, options: Sequence[str], shift: int, letters: Sequence[str]) -> Row:
    """Return the row with its options moved by `shift` letters: option k gets letter k + shift.

    Args:
        row: row of a question.
        options: columns of the options, or one column with a list of options.
        shift: number of letters.
        letters: letters of the options; a text that starts with its letter gets its new letter.

    Raises:
        DataError: a column is missing.
    """
    texts = moved(texts_of(row, options), shift, letters)
    return with_texts(row, options, texts)


def combined(answers: Sequence[Answer]) -> Answer:
    """Combine the answers to one question whose options were moved by 0, 1, 2, ... letters.

    The combined log-likelihood of an option is its log-probability among the options, averaged over the
    orders. The log-likelihoods after the unconditional prompt are averaged in the same way.
    """
    if len(answers) == 1:
        return answers[0]
    logprobs = [option_logprobs(answer.loglikelihoods) for answer in answers]
    unconditional = [answer.unconditional for answer in answers]
    return replace(
        answers[0], loglikelihoods=_mean_by_option(logprobs), unconditional=_mean_by_option(unconditional)
    )


def _mean_by_option(values: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the mean value of each option over all orders.

    The rows of `values` are the orders (options moved by 0, 1, 2, ... letters), the columns are letters.
    """
    count = len(values[0])
    return tuple(
        math.fsum(order[(option + shift) % count] for shift, order in enumerate(values)) / len(values)
        for option in range(count)
    )


def option_logprobs(values: Sequence[float]) -> list[float]:
    """Normalize the log-likelihoods of a question's options so that their probabilities sum to 1."""
    top = max(values)
    total = top + math.log(math.fsum(math.exp(value - top) for value in values))
    return [value - total for value in values]


def letters(example: Example, answers: Sequence[Answer]) -> Counter[str]:
    """Count, over all orders of a question's options, how often each letter is the most likely."""
    counts: Counter[str] = Counter()
    for answer in answers:
        counts[example.choices[answer.loglikelihoods.index(max(answer.loglikelihoods))]] += 1
    return counts
