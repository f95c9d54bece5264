"""Asks two models items in random order until a sequential test has decided between them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.config.compare import CompareConfig
from workbench.distributed import barrier
from workbench.errors import ConfigError
from workbench.evaluation import engine
from workbench.evaluation.item_interviewer import ItemInterviewer
from workbench.evaluation.metric_directions import lower_is_better
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Score, read_predictions
from workbench.files import fingerprint, masked_json
from workbench.leaderboard.board import BETTER, WORSE
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.comparing.item_order import ItemOrder, ordered
from workbench.pipeline.comparing.two_models import FOLDER, Asked, Enter
from workbench.pipeline.run_state import Run
from workbench.run_record import DIGEST, self_digest
from workbench.statistics.sequential import HIGHER, LOWER, UNDECIDED, SequentialTest, forecast_items

log = logging.getLogger("workbench")

FORECAST = (0.1, 0.05, 0.03, 0.02)
"""Differences between the models' scores for which the number of items is forecast."""
DISCORDANCE = 0.3
"""Share of items that the forecast assumes to be answered right by only one of the models."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision between two models on one benchmark, and after how many items it fell."""

    benchmark: str
    metric: str
    decision: str
    """HIGHER or LOWER (of the second model's score), a text for within the margin, or UNDECIDED."""
    difference: float
    """Estimate from the items up to the decision: score of the second model less that of the first."""
    num_clusters: int
    """Number of clusters up to the decision."""
    num_decided: int
    """Number of items up to the decision."""
    num_asked: int
    """Number of items that were asked: the last block is asked as a whole."""
    num_total: int

    @property
    def verdict(self) -> str:
        """Verdict on the second model: BETTER or WORSE, else `decision` (within the margin, or undecided)."""
        verdicts = {HIGHER: BETTER, LOWER: WORSE}
        if lower_is_better(self.metric):
            verdicts = {HIGHER: WORSE, LOWER: BETTER}
        return verdicts.get(self.decision, self.decision)

    @property
    def stopped(self) -> str:
        """After how many items the comparison stopped and with which verdict, as text."""
        if self.decision == UNDECIDED:
            return f"all {self.num_total:,} items asked, and not decided"
        return f"decided after {self.num_decided:,} of {self.num_total:,} items: {self.verdict}"

    def values(self) -> dict[str, Any]:
        """Return the decision's fields, `verdict` and `stopped` by name, as JSON values for compare.json."""
        return {**vars(self), "verdict": self.verdict, "stopped": self.stopped}


def check_any_order(benchmarks: dict[str, PreparedBenchmark]) -> None:
    """Check that there are benchmarks, and that their items can be asked in any order.

    Raises:
        ConfigError: There are none, or one is a task of lm-evaluation-harness, which is asked as a whole.
    """
    if not benchmarks:
        raise ConfigError("benchmark: none chosen (as in 'benchmark=[cmmlu,hellaswag]')")
    for name, benchmark in benchmarks.items():
        if not isinstance(benchmark.interviewer, ItemInterviewer):
            raise ConfigError(
                f"benchmarks.{name}: a task of lm-evaluation-harness is asked as a whole "
                "(compare.until=all, or this project's benchmark of that name)"
            )


def say_forecast(name: str, order: ItemOrder, alpha: float) -> None:
    """Log a forecast of the number of items that it takes to decide a difference of 10, 5, 3 or 2 points.

    The forecast assumes that only one of the models is right on a share `DISCORDANCE` of the items.

    Args:
        name: Name of the benchmark.
        order: All items of the benchmark, in the order in which they are asked.
        alpha: Level of the test.
    """
    bound = float(order.shares.max()) * len(order.shares)
    forecasts = []
    for difference in FORECAST:
        count = forecast_items(difference, DISCORDANCE, len(order.shares), alpha=alpha, bound=bound)
        items = (
            "not decided by all"
            if count is None
            else f"about {count * len(order.examples) // len(order.shares):,}"
        )
        forecasts.append(f"{100 * difference:g} points {items}")
    log.info(
        "compare: %s: forecast of the items, of %s, if %g%% flip: %s",
        name,
        f"{len(order.examples):,}",
        100 * DISCORDANCE,
        ", ".join(forecasts),
    )


def decide(
    run: Run,
    benchmark: PreparedBenchmark,
    asked: tuple[Asked, Asked],
    models: tuple[Enter, Enter],
    alpha: float,
) -> Decision:
    """Ask both models growing blocks of items until their difference is decided.

    Answers are cached in the run's folder, so a killed comparison continues where it stopped. All ranks must
    call this.

    Args:
        run: The run that compares, whose folder gets the answers.
        benchmark: The benchmark with all its items.
        asked: The two models.
        models: From `loaded`, in the same order.
        alpha: Level of the test on this benchmark.

    Raises:
        ConfigError: The metric isn't the mean of scores between 0 and 1.
    """
    config = run.config.compare
    order = ordered(benchmark, config.seed)
    say_forecast(benchmark.name, order, alpha)
    test = SequentialTest(order.shares, alpha=alpha, margin=config.margin)
    before, metric, stop = 0, benchmark.config.metrics[0], 0
    for stop in order.blocks():
        block = replace(benchmark, examples=order.examples[: order.ends[stop - 1]])
        first, second = (_values(run, block, side, enter) for side, enter in zip(asked, models, strict=True))
        sums = order.sums(np.subtract(second, first).tolist(), stop)
        decision = test.update(sums[before:], order.shares[before:stop])
        before = stop
        if decision != UNDECIDED:
            break
    return Decision(
        benchmark=benchmark.name,
        metric=metric,
        decision=test.decision,
        difference=test.difference,
        num_clusters=test.num_seen,
        num_decided=order.ends[test.num_seen - 1],
        num_asked=order.ends[stop - 1],
        num_total=len(order.examples),
    )


def _values(run: Run, block: PreparedBenchmark, asked: Asked, enter: Enter) -> list[float]:
    """Return a model's score on each item of a block; answers that are cached are not asked for again.

    Raises:
        ConfigError: The metric isn't the mean of scores between 0 and 1.
    """
    path = predictions_path(run, asked, block.name)
    with enter() as model:
        evaluation = engine.evaluate(
            model,
            asked.tokenizer(),
            {block.name: block},
            run.config.evaluate,
            model_name=asked.label,
            fingerprint=fingerprint(asked.identity),
            predictions=lambda *_: path,
            cache=run.run_dir.cache,
            decoding=prepacked,
        )
    barrier()  # the first process writes, all read
    metric = block.config.metrics[0]
    values = [prediction.scores[metric] for prediction in read_predictions(path)]
    check_scores(evaluation.scores[0], values)
    return values


def predictions_path(run: Run, asked: Asked, benchmark: str) -> Path:
    """Return the file, in the run's folder, of a model's answers to a benchmark in a comparison."""
    return run.run_dir.path / FOLDER / asked.label / f"{benchmark}.jsonl"


def check_scores(score: Score, values: Sequence[float]) -> None:
    """Check that a benchmark's score is the mean of item scores between 0 and 1.

    Args:
        score: The benchmark's score.
        values: Its item scores.

    Raises:
        ConfigError: It isn't.
    """
    if score.item_score or not all(0 <= value <= 1 for value in values):
        raise ConfigError(
            f"benchmarks.{score.benchmark}.metrics: {score.metric} isn't the mean of scores from 0 to 1 "
            "(compare.until=all tests it, or name such a metric first)"
        )


def as_json(
    config: CompareConfig, asked: tuple[Asked, Asked], decisions: Sequence[Decision], alpha: float
) -> dict[str, Any]:
    """Return the contents of compare.json, with their checksum.

    Args:
        config: The compare section.
        asked: The two models.
        decisions: The decision on each benchmark so far.
        alpha: Level of the test on each benchmark.
    """
    values: dict[str, Any] = {
        "schema_version": 1,
        "until": config.until.name,
        "a": asked[0].values(),
        "b": asked[1].values(),
        "alpha": config.alpha,
        "alpha_each": alpha,
        "margin": config.margin,
        "seed": config.seed,
        "decisions": [decision.values() for decision in decisions],
    }
    masked = masked_json(values)  # as it is written
    return {**masked, DIGEST: self_digest(masked)}
