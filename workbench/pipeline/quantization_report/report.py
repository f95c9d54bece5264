"""Combines measurements into a report: numbers with their intervals, for tables and for JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.config.inspection.quantization_report import NumberFormat
from workbench.leaderboard.compare_results import Comparison, compare_all
from workbench.leaderboard.compare_two.report import none_if_nan
from workbench.models.token_divergence import TextDivergence
from workbench.pipeline.quantization_report.gains import Gain
from workbench.pipeline.quantization_report.measure import Measured
from workbench.pipeline.quantization_report.speeds import Speeds
from workbench.statistics.family import ERROR_RATES
from workbench.statistics.intervals import error_and_interval
from workbench.statistics.paired import PairedTest
from workbench.statistics.ratio import compare_ratio

SCHEMA_VERSION = 1
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How far a model's next-token distributions are from the unquantized model's."""

    num_texts: int
    """Number of probe texts."""
    num_tokens: int
    """Number of their tokens after which the next token's distribution is compared."""
    kl: float
    """Kullback-Leibler divergence per token, in nats."""
    kl_interval: Interval | None
    """95% interval, with texts as independent samples; None: too few texts differ."""
    agreement: float
    """Share of tokens after which both models have the same most likely next token."""
    agreement_interval: Interval
    """95% interval of `agreement`, with texts as clusters."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One number format: its measurements, and its differences from the unquantized model."""

    measured: Measured
    fidelity: Fidelity | None
    """None: there are no probe texts."""
    comparison: Comparison | None
    """Scores compared with the unquantized model's; None for the unquantized model."""
    speeds: Speeds | None
    """None: not measured, as for GGUF."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The measurements of a model in all number formats, unquantized first."""

    model: str
    """Name of the model, for titles."""
    lines: list[Line]
    gains: list[Gain]
    """Empty if the model has no adapter whose gain was measured."""
    machine: dict[str, Any]
    """System, processors and device that speed was measured on."""


def lines(measured: Sequence[Measured], speeds: Mapping[NumberFormat, Speeds]) -> list[Line]:
    """Return a line for each number format, in order; p-values are corrected for all comparisons together.

    Args:
        measured: The measurements, the unquantized model's first.
        speeds: Speeds of the number formats that have them.

    Raises:
        ConfigError: A measurement has no benchmark in common with the first.
    """
    whole, *others = measured
    compared = compare_all(whole.results, [other.results for other in others]) if others else []
    comparisons: list[Comparison | None] = [None, *compared]
    return [
        Line(
            measured=one,
            fidelity=fidelity(one.texts),
            comparison=comparison,
            speeds=speeds.get(one.number_format),
        )
        for one, comparison in zip(measured, comparisons, strict=True)
    ]


def fidelity(texts: Sequence[TextDivergence]) -> Fidelity | None:
    """Return the divergence and the agreement over all probe texts; None without texts.

    Raises:
        DataError: A divergence isn't finite.
    """
    if not texts:
        return None
    sizes = [text.num_tokens for text in texts]
    test = compare_ratio([0.0] * len(texts), [text.kl for text in texts], sizes)
    agreeing: list[float] = []
    for text in texts:
        agreeing += [1.0] * text.num_agreeing + [0.0] * (text.num_tokens - text.num_agreeing)
    clusters = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    return Fidelity(
        num_texts=len(texts),
        num_tokens=sum(sizes),
        kl=test.difference,
        kl_interval=None if math.isnan(test.low) else (max(0.0, test.low), test.high),
        agreement=sum(agreeing) / len(agreeing),
        agreement_interval=error_and_interval({"": agreeing}, clusters)[1],
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the contents of the report's JSON file as a dict; what wasn't measured is None."""
    families = [line.comparison.rows for line in report.lines if line.comparison]
    sizes = [row.difference.family for rows in families for row in rows if row.difference]
    return {
        "schema_version": SCHEMA_VERSION,
        "model": report.model,
        "formats": [_line(line) for line in report.lines],
        "family": {"size": max(sizes, default=0), "error_rate": ERROR_RATES["pairs"]},
        "gains": [_gain(gain) for gain in report.gains],
        "machine": report.machine,
    }


def _line(line: Line) -> dict[str, Any]:
    measured = line.measured
    rows = {row.benchmark: row for row in line.comparison.rows} if line.comparison else {}
    return {
        "held_as": measured.number_format.value,
        "dtype": measured.dtype,
        "size_bytes": measured.num_bytes,
        "fidelity": asdict(line.fidelity) if line.fidelity else None,
        "scores": [
            {
                "benchmark": score.benchmark,
                "metric": score.metric,
                "value": score.value,
                "interval": score.interval,
                "against_none": _difference(rows, score.benchmark, score.metric),
            }
            for score in measured.results.scores
        ],
        "means": [asdict(mean) for mean in line.comparison.means] if line.comparison else [],
        "speed": asdict(line.speeds) if line.speeds else None,
    }


def _difference(rows: Mapping[str, Any], benchmark: str, metric: str) -> dict[str, Any] | None:
    row = rows.get(benchmark)
    return asdict(row.difference) if row and row.difference and row.metric == metric else None


def _gain(gain: Gain) -> dict[str, Any]:
    values = {"held_as": gain.number_format.value, "benchmark": gain.benchmark, "metric": gain.metric}
    tests = {"unquantized": gain.unquantized, "quantized": gain.quantized, "change": gain.change}
    return {
        **values,
        **{name: _test(test) for name, test in tests.items()},
        "p_adjusted": none_if_nan(gain.p_adjusted),
        "sentence": gain.sentence,
    }


def _test(test: PairedTest) -> dict[str, Any]:
    return {name: none_if_nan(value) for name, value in asdict(test).items()}
