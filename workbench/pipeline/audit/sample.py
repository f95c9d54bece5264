"""Draws the items to ask again from the answers that a run has recorded."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from workbench.errors import DataError
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Prediction, read_predictions
from workbench.run_dir import RunDir


@dataclass(frozen=True)
class Sample:
    """The items of one model that are asked again."""

    benchmarks: dict[str, PreparedBenchmark]
    """Benchmark -> the benchmark with the drawn items only."""
    recorded: dict[str, list[Prediction]]
    """Benchmark -> recorded answers to these items, in the same order."""
    unknown: list[str]
    """Drawn items of the record that the benchmark doesn't have, as `benchmark id`."""
    num_total: int
    """Recorded answers that the sample is drawn from."""

    @property
    def num_items(self) -> int:
        """Number of drawn items."""
        return len(self.unknown) + sum(map(len, self.recorded.values()))


def recorded_answers(run_dir: RunDir, model: str, names: list[str]) -> dict[str, list[Prediction]]:
    """Read a model's recorded answers to the benchmarks `names`; return them by benchmark.

    Raises:
        DataError: A file is missing or damaged, or has an item twice.
    """
    answers: dict[str, list[Prediction]] = {}
    for name in names:
        path = run_dir.predictions(model, name)
        if not path.is_file():
            raise DataError(f"{path}: missing, though results.json has a score made of it")
        answers[name] = read_predictions(path)
        ids = [answer.id for answer in answers[name]]
        if len(set(ids)) < len(ids):
            twice = next(item for index, item in enumerate(ids) if item in ids[:index])
            raise DataError(f"{path}: has item {twice!r} twice")
    return answers


def draw(
    answers: Mapping[str, list[Prediction]],
    benchmarks: Mapping[str, PreparedBenchmark],
    num_items: int,
    seed: int,
) -> Sample:
    """Draw items at random from all recorded answers together.

    Args:
        answers: Benchmark -> recorded answers.
        benchmarks: Benchmark -> the same benchmark, prepared from the auditor's own files.
        num_items: Number of items to draw; all if there are fewer.
        seed: Seed of the draw.
    """
    population = [(name, index) for name in sorted(answers) for index in range(len(answers[name]))]
    drawn = sorted(random.Random(seed).sample(population, min(num_items, len(population))))
    chosen: dict[str, PreparedBenchmark] = {}
    recorded: dict[str, list[Prediction]] = {}
    unknown: list[str] = []
    for name in dict.fromkeys(name for name, _ in drawn):
        by_id = {example.id: example for example in benchmarks[name].examples}
        own = [answers[name][index] for drawn_name, index in drawn if drawn_name == name]
        unknown += [f"{name} {answer.id}" for answer in own if answer.id not in by_id]
        recorded[name] = [answer for answer in own if answer.id in by_id]
        if recorded[name]:
            examples = [by_id[answer.id] for answer in recorded[name]]
            chosen[name] = replace(benchmarks[name], examples=examples)
    return Sample(chosen, recorded, unknown, len(population))
