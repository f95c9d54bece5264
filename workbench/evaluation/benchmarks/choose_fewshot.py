"""Chooses the few-shot examples of each question."""

import random
from collections.abc import Sequence

from workbench.config.benchmark import FewshotOrder
from workbench.evaluation.benchmarks.benchmark_files import Row


class ExamplePicker:
    """Picks the few-shot examples of each question from the rows of the few-shot split."""

    def __init__(self, order: FewshotOrder, count: int, seed: int) -> None:
        """Create a picker from `fewshot_order`, `num_fewshot` and the seed of random examples."""
        self.order = order
        self.count = count
        self.seed = seed
        self._rows: list[Row] = []
        self._indices: dict[str, int] = {}
        """File position of a row -> its index in `_rows`."""
        self._generator = random.Random(seed)
        self._draws: list[list[int]] = []
        """Row indices that lm-evaluation-harness draws for each question of the subset, in order."""

    def pick(self, rows: list[Row], question: Row, number: int, identity: str) -> list[Row]:
        """Return the rows of a question's few-shot examples: `num_fewshot` of them, or none if it is 0.

        The question's own row is left out, except with `fewshot_order: harness`, which draws as the harness.

        Args:
            rows: rows of the few-shot split, more than `num_fewshot`; the same list for all questions of a
                subset.
            question: row of the question.
            number: index of the question's row in its split after `keep`.
            identity: id of the item.
        """
        if not self.count:
            return []
        if self._rows is not rows:
            self._rows, self._indices = rows, {row.where: index for index, row in enumerate(rows)}
            self._generator, self._draws = random.Random(self.seed), []
        if self.order in (FewshotOrder["harness"], FewshotOrder["harness-spare"]):
            return self._as_harness(question, number)
        own_index = self._indices.get(question.where, len(rows))
        candidates = range(len(rows) - (own_index < len(rows)))
        if self.order == FewshotOrder.first:
            chosen: Sequence[int] = candidates[: self.count]
        else:
            chosen = random.Random(f"{self.seed}/{identity}").sample(candidates, self.count)
        return [rows[index + (index >= own_index)] for index in chosen]

    def _as_harness(self, question: Row, number: int) -> list[Row]:
        """Return the rows that lm-evaluation-harness draws: all questions share one random generator.

        With `harness-spare`, one row more is drawn, so that a row equal to the question can be left out.

        Source: lm-evaluation-harness 0.4.13, api/samplers.py, ContextSampler.
        """
        spare = self.order == FewshotOrder["harness-spare"]
        while len(self._draws) <= number:
            self._draws.append(self._generator.sample(range(len(self._rows)), self.count + spare))
        drawn = [self._rows[index] for index in self._draws[number]]
        if not spare:
            return drawn
        usable = [row for row in drawn if row.values != question.values]
        if len(usable) < self.count:
            pool = [row for row in self._rows if row.values != question.values]
            return random.Random(f"{self.seed}/{number}").sample(pool, self.count)
        return usable[: self.count]
