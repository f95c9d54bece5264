"""Asks lettered questions with their options in several orders, to cancel a preference for a letter."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.benchmarks.option_letters import moved, texts_of, with_texts
from workbench.evaluation.records import Answer, Example


def rotated(row: Row, options: Sequence[str], shift: int, letters: Sequence[str]) -> Row:
    """Return a copy of the row with its options moved by `shift` letters: with 1, A's text moves to B.

    Args:
        row: row of a question.
        options: columns of the options, or one column with a list of options.
        shift: number of letters.
        letters: letters of the options; in texts such as `A. Paris` the letter is replaced by the new one.

    Raises:
        DataError: a column is missing.
    """
    texts = moved(texts_of(row, options), shift, letters)
    return with_texts(row, options, texts)


def combined(answers: Sequence[Answer]) -> Answer:
    """Combine the answers to one question whose options were moved by 0, 1, 2, ... letters, in this order.

    A single answer is returned as it is. Otherwise the combined log-likelihood of an option is its
    log-probability among the options, averaged over the orders; the log-likelihoods after the unconditional
    prompt are averaged as they are. All other fields are the first answer's.
    """
    if len(answers) == 1:
        return answers[0]
    logprobs = [option_logprobs(answer.loglikelihoods) for answer in answers]
    unconditional = [answer.unconditional for answer in answers]
    return replace(
        answers[0], loglikelihoods=_mean_by_option(logprobs), unconditional=_mean_by_option(unconditional)
    )


def _mean_by_option(values: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return each option's value, averaged over all orders in which the question was asked.

    `values[k][j]` is the value at letter j in the order whose options were moved by k letters.
    """
    count = len(values[0])
    return tuple(
        math.fsum(order[(option + shift) % count] for shift, order in enumerate(values)) / len(values)
        for option in range(count)
    )


def option_logprobs(values: Sequence[float]) -> list[float]:
    """Convert the log-likelihoods of a question's options to log-probabilities among the options, in nats."""
    top = max(values)
    total = top + math.log(math.fsum(math.exp(value - top) for value in values))
    return [value - total for value in values]


def letters(example: Example, answers: Sequence[Answer]) -> Counter[str]:
    """Return letter -> number of option orders of a question in which it is the most likely.

    Args:
        example: the question.
        answers: its answers, one per order of the options.
    """
    counts: Counter[str] = Counter()
    for answer in answers:
        counts[example.choices[answer.loglikelihoods.index(max(answer.loglikelihoods))]] += 1
    return counts
