"""Chooses the rows that are shown as examples before a question."""

import random
from collections.abc import Sequence

from workbench.config.benchmark import FewshotOrder
from workbench.evaluation.benchmarks.benchmark_files import Row


class ExamplePicker:
    """Picks the examples of each question of a benchmark from the rows of its few-shot split."""

    def __init__(self, order: FewshotOrder, count: int, seed: int) -> None:
        """Take the benchmark's `fewshot_order` and `num_fewshot`, and the seed of random examples."""
        self.order = order
        self.count = count
        self.seed = seed
        self._rows: list[Row] = []
        self._numbers: dict[str, int] = {}
        """Place of a row in its file -> its number among the rows."""
        self._generator = random.Random(seed)
        self._draws: list[list[int]] = []
        """What lm-evaluation-harness draws for each question of the subset, in order."""

    def pick(self, rows: list[Row], question: Row, number: int, identity: str) -> list[Row]:
        """The examples before a question, which is never its own example.

        Args:
            rows: the rows of the few-shot split.
            question: the row that is asked.
            number: of the question's row among those that `keep` leaves of its split.
            identity: the id of the item.
        """
        if not self.count:
            return []
        if self._rows is not rows:
            self._rows, self._numbers = rows, {row.where: index for index, row in enumerate(rows)}
            self._generator, self._draws = random.Random(self.seed), []
        if self.order in (FewshotOrder["harness"], FewshotOrder["harness-spare"]):
            return self._as_harness(question, number)
        own = self._numbers.get(question.where, len(rows))
        others = range(len(rows) - (own < len(rows)))
        if self.order == FewshotOrder.first:
            chosen: Sequence[int] = others[: self.count]
        else:
            chosen = random.Random(f"{self.seed}/{identity}").sample(others, self.count)
        return [rows[index + (index >= own)] for index in chosen]

    def _as_harness(self, question: Row, number: int) -> list[Row]:
        """The examples that lm-evaluation-harness draws: one generator serves all questions, in their order.

        Source: lm-evaluation-harness 0.4.13, api/samplers.py, ContextSampler.
        """
        spare = self.order == FewshotOrder["harness-spare"]
        while len(self._draws) <= number:
            self._draws.append(self._generator.sample(range(len(self._rows)), self.count + spare))
        drawn = [self._rows[index] for index in self._draws[number]]
        if not spare:
            return drawn
        others = [row for row in drawn if row.values != question.values]
        if len(others) < self.count:
            pool = [row for row in self._rows if row.values != question.values]
            return random.Random(f"{self.seed}/{number}").sample(pool, self.count)
        return others[: self.count]
