"""Measures how much of an adapter's gain is lost if base and merged model are quantized."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.config.inspection.quantization_report import NumberFormat
from workbench.evaluation.metric_directions import lower_is_better
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Score
from workbench.leaderboard import formatting
from workbench.leaderboard.formatting import is_shown_as_share
from workbench.leaderboard.results import Results
from workbench.pipeline.combining.choice import Items
from workbench.pipeline.combining.halves import items_of
from workbench.pipeline.quantization_report.measure import Measured, shown_name
from workbench.statistics.family import ERROR_RATES, adjusted, level
from workbench.statistics.paired import PairedTest, compare_paired

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Gain:
    """An adapter's gain on one benchmark, unquantized and in one number format."""

    number_format: NumberFormat
    benchmark: str
    metric: str
    is_share: bool
    unquantized: PairedTest
    """Merged model over base, both unquantized; positive: better."""
    quantized: PairedTest
    """Merged model over base, both in this number format."""
    change: PairedTest
    """`quantized` less `unquantized`, item by item; below 0: quantizing reduces the gain."""
    p_adjusted: float
    """p-value of `change`, corrected for all benchmarks and number formats."""

    @property
    def sentence(self) -> str:
        """Sentence on how much of the gain the number format keeps, with the change's interval."""
        unquantized, quantized = (
            formatting.change(test.difference, self.is_share) for test in (self.unquantized, self.quantized)
        )
        bounds = None if self.change.reason else (self.change.low, self.change.high)
        interval = formatting.interval(bounds, self.is_share, signed=True)
        about = (
            f"({interval}, p {formatting.equal(self.p_adjusted)})" if interval else f"({self.change.reason})"
        )
        change = formatting.change(self.change.difference, self.is_share)
        unit = " points" if self.is_share else ""
        name = shown_name(self.number_format)
        return f"{self.benchmark}: of {unquantized}{unit}, {name} keeps {quantized}: {change} {about}"


def gains(
    merged: Sequence[Measured], base: Sequence[Measured], benchmarks: Mapping[str, PreparedBenchmark]
) -> list[Gain]:
    """Compare the merged model's gain over the base in each number format with the unquantized gain.

    Returns a gain for each benchmark and number format but the first. All tests are corrected as one family,
    with the error rate of a leaderboard's pairs.

    Args:
        merged: The merged model, unquantized first.
        base: The base in the same number formats, in the same order.
        benchmarks: The benchmarks; those whose score isn't a mean over items are left out.
    """
    comparable = {
        name: benchmark for name, benchmark in benchmarks.items() if not merged[0].results[name].item_score
    }
    num_tests = len(comparable) * (len(merged) - 1)
    alpha = level(ERROR_RATES["pairs"], num_tests)
    compared = []
    for name, benchmark in comparable.items():
        score, items = merged[0].results[name], items_of(benchmark)
        before, after = (_values(held[0].results, score) for held in (base, merged))
        for small_base, small in zip(base[1:], merged[1:], strict=True):
            low, high = _values(small_base.results, score), _values(small.results, score)
            change = _paired(after - before, high - low, items, alpha)
            compared.append(
                Gain(
                    number_format=small.number_format,
                    benchmark=name,
                    metric=score.metric,
                    is_share=is_shown_as_share(score),
                    unquantized=_paired(before, after, items, alpha),
                    quantized=_paired(low, high, items, alpha),
                    change=change,
                    p_adjusted=math.nan if change.reason else adjusted(change.p_value, num_tests),
                )
            )
    return compared


def _paired(first: Floats, second: Floats, items: Items, alpha: float) -> PairedTest:
    return compare_paired(first, second, alpha=alpha, clusters=items.clusters, subsets=items.subsets)


def _values(results: Results, score: Score) -> Floats:
    """Return each item's score by the metric of `score`, negated if lower is better."""
    sign = -1.0 if lower_is_better(score.metric) else 1.0
    predictions = results.predictions[score.benchmark]
    return sign * np.array([prediction.scores[score.metric] for prediction in predictions])
