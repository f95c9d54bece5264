"""Decides between the best setting of a search and the weights as given, and writes the search's files."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.config.merge import MergeConfig
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.files import read_json, write_atomic, write_json
from workbench.pipeline.combining.choice import (
    Factors,
    Items,
    JudgedSetting,
    Values,
    columns,
    compare,
    is_safe,
)
from workbench.pipeline.combining.dose_response import (
    curve,
    dose_response_svg,
    settings_csv,
    settings_table,
)
from workbench.pipeline.run_state import Run
from workbench.run_dir import new_folder
from workbench.statistics.non_inferiority import most_lost
from workbench.statistics.paired import PairedTest

log = logging.getLogger("workbench")

SEARCH_JSON, SEARCH_CSV, CURVE_SVG = "search.json", "search.csv", "dose_response.svg"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The setting that a search chose, and its comparison on the second half of the items."""

    best: JudgedSetting
    chosen: Factors
    """Factors of the best setting, or of the weights as given."""
    over_base: PairedTest
    """The best setting compared with the base, on the second half."""
    over_given: PairedTest
    """The best setting compared with the weights as given, on the second half."""
    most_lost: float | None
    """Upper bound of the best setting's loss on the guard set, on the second half; None: no guard set."""
    verdict: str
    """Sentence on which weights are merged, and why."""


def decide(
    winner: JudgedSetting,
    given: JudgedSetting,
    finalists: Mapping[Factors, Values],
    items: Mapping[str, Items],
    merge: MergeConfig,
) -> Decision:
    """Choose between the best setting and the weights as given, by the second half of the items.

    The weights as given are kept if the best setting isn't significantly better, and if their loss on the
    guard set is small (`is_safe`) on the first half.

    Args:
        winner: The best setting, scored on the first half.
        given: The weights as given, scored on the first half.
        finalists: Scores on the second half, of the base, the weights as given and the best setting.
        items: Clusters and subsets of the second half.
        merge: The merge section.
    """
    base = finalists[(0.0,) * len(winner.factors)]
    values = finalists[winner.factors]
    over_base = compare(base, values, items, merge.guard)
    over_given = compare(finalists[given.factors], values, items, merge.guard)
    on_guard = columns(base, values, items, merge.guard)
    keeps_given = over_given.sign <= 0 and is_safe(given, merge.guard_margin)
    return Decision(
        best=winner,
        chosen=given.factors if keeps_given else winner.factors,
        over_base=over_base,
        over_given=over_given,
        most_lost=most_lost(on_guard) if on_guard else None,
        verdict=_verdict(winner, given, over_given, keeps_given),
    )


def read_chosen(folder: Path) -> Factors:
    """Return the factors that a finished search has chosen, from search.json, which must be in `folder`."""
    return tuple(float(factor) for factor in read_json(folder / SEARCH_JSON)["chosen"])


def write_report(
    run: Run,
    judged: Sequence[JudgedSetting],
    decision: Decision | None,
    halves: tuple[Mapping[str, PreparedBenchmark], Mapping[str, PreparedBenchmark]],
) -> None:
    """Write search.json, search.csv and dose_response.svg into the run's folder search/; log them as a table.

    The SVG is written only if two or more settings have the same factor on all adapters.

    Args:
        run: The run.
        judged: All settings, from the first half.
        decision: The decision; None: no setting is safe.
        halves: The benchmarks with the first and with the second half of their items.
    """
    merge = run.config.merge
    names = [Path(entry.path).name for entry in merge.adapters]
    chosen = next((setting for setting in judged if decision and setting.factors == decision.chosen), None)
    diagonal = curve(judged)
    with new_folder(run.run_dir.search) as folder:
        write_json(folder / SEARCH_JSON, _as_json(merge, judged, decision, halves))
        write_atomic(folder / SEARCH_CSV, settings_csv(judged, names))
        if len(diagonal) > 1:
            common = set(chosen.factors) if chosen else set()
            mark = next(iter(common)) if len(common) == 1 else None
            write_atomic(folder / CURVE_SVG, dose_response_svg(diagonal, mark, merge.guard_margin))
    for line in settings_table(judged, names, chosen, merge.guard_margin).text().splitlines():
        log.info("  %s", line)
    if decision is not None:
        _log_decision(decision, merge)
    log.info("search: %s", run.run_dir.search)


def _log_decision(decision: Decision, merge: MergeConfig) -> None:
    """Log the verdict, and the best setting's gain and loss on the second half."""
    log.info("search: %s", decision.verdict)
    log.info("search: on the other half factor %s is %s over the base", *_described(decision))
    if decision.most_lost is None:
        return
    loss = f"{100 * decision.most_lost:.1f} points"
    if decision.most_lost < merge.guard_margin:
        log.info("search: there the guard set loses at most %s (95%%)", loss)
    else:
        log.warning(
            "search: there the guard set may lose up to %s, and merge.guard_margin allows %.1f (more items "
            "narrow that bound)",
            loss,
            100 * merge.guard_margin,
        )


def _described(decision: Decision) -> tuple[str, str]:
    """Return the best setting's factors, and its gain over the base with the interval, as texts."""
    return _factors(decision.best.factors), points(decision.over_base)


def points(test: PairedTest) -> str:
    """Return a test's difference in points (hundredths), with its interval or the reason why it has none."""
    if test.reason:
        return f"{100 * test.difference:+.1f} points ({test.reason})"
    return f"{100 * test.difference:+.1f} points (95%: {100 * test.low:+.1f} to {100 * test.high:+.1f})"


def _verdict(winner: JudgedSetting, given: JudgedSetting, over_given: PairedTest, keeps_given: bool) -> str:
    """Return a sentence that tells which weights are merged, and why."""
    factors = _factors(winner.factors)
    if winner.factors == given.factors:
        return "the weights as given gain most, and are merged"
    if over_given.sign > 0:
        return f"factor {factors} is better than the weights as given, by {points(over_given)}, and is merged"
    if not keeps_given:
        return f"factor {factors} is merged, because the weights as given may lose too much on the guard set"
    if over_given.sign < 0:
        return f"factor {factors} is worse on the other half than the weights as given, which are merged"
    return (
        f"factor {factors} and the weights as given are indistinguishable on the other half, "
        f"{points(over_given)}; the weights as given are merged"
    )


def _factors(factors: Factors) -> str:
    return ", ".join(f"{factor:g}" for factor in factors)


def _as_json(
    merge: MergeConfig,
    judged: Sequence[JudgedSetting],
    decision: Decision | None,
    halves: tuple[Mapping[str, PreparedBenchmark], Mapping[str, PreparedBenchmark]],
) -> dict[str, Any]:
    """Return the contents of search.json."""
    return {
        "schema_version": SCHEMA_VERSION,
        "adapters": [asdict(entry) for entry in merge.adapters],
        "seed": merge.seed,
        "guard_margin": merge.guard_margin,
        "benchmarks": {
            name: {
                "role": "guard" if name in merge.guard else "gain",
                "metric": benchmark.config.metrics[0],
                "num_choosing": len(benchmark.examples),
                "num_reporting": len(halves[1][name].examples),
            }
            for name, benchmark in halves[0].items()
        },
        "settings": [_without_nan(asdict(setting)) for setting in judged],
        "best": list(decision.best.factors) if decision else None,
        "chosen": list(decision.chosen) if decision else None,
        "verdict": decision.verdict if decision else None,
        "over_base": _without_nan(asdict(decision.over_base)) if decision else None,
        "over_given": _without_nan(asdict(decision.over_given)) if decision else None,
        "most_lost": decision.most_lost if decision else None,
    }


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with None for numbers that JSON doesn't have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
