"""Generates sentences about the order of the numbers from 0 to 99, and questions about it."""

import hashlib
from dataclasses import dataclass
from random import Random

LIMIT = 100
"""All numbers are integers from 0 to LIMIT - 1."""

ASKED = 4
"""Numbers per question."""

MARGIN = 12
"""An answer below MARGIN is always the smallest number, one from LIMIT - MARGIN on always the largest."""

HELD_OUT_SHARE = 8
"""One in this many sets of numbers is held out for the benchmarks."""


@dataclass(frozen=True)
class Choice:
    """Question for the largest or the smallest of some numbers."""

    numbers: tuple[int, ...]
    """The numbers in the order of the question."""
    largest: bool
    """Whether the largest number is asked for, else the smallest."""

    @property
    def answer(self) -> int:
        """The right answer: the largest or the smallest number."""
        return max(self.numbers) if self.largest else min(self.numbers)


def is_held_out(numbers: tuple[int, ...]) -> bool:
    """Return whether a set of numbers, in any order, is held out for the benchmarks."""
    return hashlib.sha256(repr(sorted(numbers)).encode()).digest()[0] % HELD_OUT_SHARE == 0


def choice(rng: Random, count: int, held_out: bool) -> Choice:
    """Draw a random question about `count` different numbers; `held_out`: whether their set is held out.

    The answer is drawn first, uniformly: otherwise extreme numbers would be more frequent answers, and a
    model that only learned the frequencies would score above chance.
    """
    answer = rng.randrange(LIMIT)
    largest = answer >= LIMIT - MARGIN or (answer >= MARGIN and rng.random() < 0.5)
    candidates = range(answer) if largest else range(answer + 1, LIMIT)
    while True:
        numbers = (answer, *rng.sample(candidates, count - 1))
        if is_held_out(numbers) == held_out:
            return Choice(tuple(rng.sample(numbers, count)), largest)


def sentence(rng: Random, language: str, held_out: bool = False) -> str:
    """Generate pretraining text: a count, a comparison of two numbers, or the largest or smallest of some.

    In English if `language` is en, else in Chinese.

    `held_out` decides whether the set of numbers of the last kind is one held out for the benchmarks.
    """
    kind = rng.random()
    if kind < 0.1:
        first = rng.randrange(LIMIT - 6)
        run = [str(number) for number in range(first, first + 6)]
        return f"We count {' '.join(run)}." if language == "en" else f"数一数{'、'.join(run)}。"
    if kind < 0.3:
        return comparison(rng, language)
    return statement(choice(rng, rng.choice((3, ASKED)), held_out), language)


def comparison(rng: Random, language: str) -> str:
    """Generate a comparison such as `52 is more than 37.`; Chinese unless `language` is en."""
    low, high = sorted(rng.sample(range(LIMIT), 2))
    if language == "en":
        return f"{high} is more than {low}." if rng.random() < 0.5 else f"{low} is less than {high}."
    return f"{high}比{low}大。" if rng.random() < 0.5 else f"{low}比{high}小。"


def statement(choice: Choice, language: str) -> str:
    """Write a question with its answer as a statement, as in `Of 8, 37 and 52 the most is 52.`.

    In English if `language` is en, else in Chinese.
    """
    *names, last = [str(number) for number in choice.numbers]
    if language == "en":
        word = "most" if choice.largest else "least"
        return f"Of {', '.join(names)} and {last} the {word} is {choice.answer}."
    return f"{'、'.join([*names, last])}里面{'大' if choice.largest else '小'}的是{choice.answer}。"


def question(choice: Choice, language: str) -> str:
    """Write a question as text, in words that the pretraining text doesn't have, up to `Answer:`.

    In English if `language` is en, else in Chinese.
    """
    *names, last = [str(number) for number in choice.numbers]
    if language == "en":
        word = "largest" if choice.largest else "smallest"
        return f"Question: Which is the {word}, {', '.join(names)} or {last}?\nAnswer:"
    return f"问题：{'、'.join([*names, last])}，哪个最{'大' if choice.largest else '小'}？\n答案："


def ends_question(asked: tuple[int, ...], language: str) -> str:
    """Write the question for both the smallest and the largest number; Chinese unless `language` is en."""
    *names, last = [str(number) for number in asked]
    if language == "en":
        return f"Question: Which are the smallest and largest, {', '.join(names)} or {last}?\nAnswer:"
    return f"问题：{'、'.join([*names, last])}，哪个最小？哪个最大？\n答案："


def ends_answer(asked: tuple[int, ...], language: str) -> str:
    """Write the answer to `ends_question`, the smaller number first; Chinese unless `language` is en."""
    return f"{min(asked)}{' and ' if language == 'en' else '、'}{max(asked)}"
