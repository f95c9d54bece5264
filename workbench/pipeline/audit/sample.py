"""Draws the items to ask again from the answers that a run has recorded."""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.config.benchmark import Sample as SampleKind
from workbench.errors import DataError
from workbench.evaluation.benchmarks.sample import sampled
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Prediction, Score, read_predictions
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
    """Number of recorded answers that the sample is drawn from."""

    @property
    def num_items(self) -> int:
        """Number of drawn items."""
        return len(self.unknown) + sum(map(len, self.recorded.values()))


def recorded_answers(run_dir: RunDir, model: str, names: list[str]) -> dict[str, list[Prediction]]:
    """Return benchmark -> a model's recorded answers to all its items, for the benchmarks `names`.

    Raises:
        DataError: A file is missing or damaged, or has an item twice.
        OSError, UnicodeDecodeError: A file can't be read.
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
    """Draw items at random, without repetition, from all recorded answers together.

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


def other_choices(
    scores: Sequence[Score],
    answers: Mapping[str, Sequence[Prediction]],
    benchmarks: Mapping[str, PreparedBenchmark],
    skipped: Mapping[str, Collection[str]],
) -> list[str]:
    """Return a remark for each benchmark whose answered items are not those that a limit selects.

    A limit selects the same items for everybody; items selected in another way may be those that the model
    answers well. Subsets without any answer are allowed. Another remark says if the score's total is too
    small.

    Args:
        scores: The scores of one model.
        answers: Benchmark -> all recorded answers of the model.
        benchmarks: Benchmark -> the same benchmark with all items, prepared from the auditor's own files.
        skipped: Benchmark -> ids of the items that are too long for the model and so have no answer.
    """
    remarks = []
    num_skipped = {score.benchmark: score.num_skipped for score in scores}
    totals = {score.benchmark: score.num_total for score in scores if score.num_total is not None}
    for name, recorded in answers.items():
        by_subset: dict[str, list[str]] = {}
        for example in benchmarks[name].examples:
            by_subset.setdefault(example.subset, []).append(example.id)
        ids = {answer.id for answer in recorded}
        counts = Counter({subset: len(ids.intersection(own)) for subset, own in by_subset.items()})
        asked = {subset: own for subset, own in by_subset.items() if counts[subset]}
        limit, total = max(counts.values(), default=0), sum(map(len, asked.values()))
        choices = (
            {own[index] for subset, own in asked.items() for index in sampled(name, subset, own, most, kind)}
            for kind in SampleKind
            for most in range(limit, limit + num_skipped.get(name, 0) + 1)
        )
        if not any(ids == choice.difference(skipped[name]) for choice in choices):
            remarks.append(f"{name}: its {len(ids):,} items of {total:,} aren't those that a limit chooses")
        if totals.get(name, total) < total:
            remarks.append(f"{name}: has {total:,} items, the score says {totals[name]:,}")
    return remarks
