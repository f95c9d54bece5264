"""Combines the adapters of `merge.adapters` into the run's combined/."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workbench.config.adapter import AdapterBase
from workbench.config.history import hashed
from workbench.config.merge import COMBINED_BY, MergeConfig, WeightedPart
from workbench.config.merge_method import MergeMethod
from workbench.errors import ConfigError
from workbench.leaderboard.rows.models import COMBINED
from workbench.models.adapters import adapter_config
from workbench.models.combining.combine_adapters import Combination, combine_adapters
from workbench.pipeline.combining.search import searched_weights
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import skip_finished
from workbench.run_dir import fingerprint
from workbench.run_record import RunRecord
from workbench.shipped import public_path

log = logging.getLogger("workbench")

EXACT = 1e-5
"""If a combination differs less than this from the weighted sum, relative to the sum's size, it is reported
as the exact sum; float32 rounds to about 1e-7."""


def combine(run: Run) -> None:
    """Combine `merge.adapters` to one adapter in the run's folder combined/, unless that is finished.

    With `merge.search`, a search chooses the weights first.

    Raises:
        ConfigError: The run has trained an adapter of its own.
        WorkbenchError: The adapters can't be combined.
    """
    config, run_dir = run.config, run.run_dir
    if run_dir.adapter.is_dir():
        raise ConfigError(
            f"run_dir: {str(run_dir.path)!r} has an adapter of its own, {run_dir.adapter.name}/ (give "
            "another run_dir, and name that adapter in merge.adapters if it belongs to the combination)"
        )
    merge = replace(config.merge, adapters=searched_weights(run)) if config.merge.search else config.merge
    inputs = fingerprint(combination_inputs(merge))
    record = RunRecord(run_dir.run_json)
    if skip_finished("combine", record.is_finished("combine", inputs, run_dir.combined), config):
        return
    accepts = config.adapter.base is AdapterBase.accept
    report = combine_adapters(config.model, merge, run_dir.combined, accepts_base=accepts)
    record.note(COMBINED, combined_facts(report.method, merge.adapters, report.rank))
    record.finish("combine", inputs, run_dir.combined, {"difference_from_sum": report.difference})
    log.info("combine: %s; %s", summary(report), run_dir.combined)


def combined_facts(method: str, entries: Sequence[WeightedPart], rank: int | None = None) -> dict[str, Any]:
    """Return `method`, `rank` and `parts` of a combination as JSON values, for run.json and the leaderboard.

    `method` is a phrase, as `2 adapters by cat`. `parts` has `path` and `weight` of each. There is no `rank`
    if models were combined.

    Args:
        method: Name of the method, such as `cat`.
        entries: The combined adapters or models, with their weights.
        rank: Rank of the combined adapter; None: models were combined.
    """
    kind = "adapters" if rank is not None else "models"
    return {
        "method": f"{len(entries)} {kind} by {method}",
        **({"rank": rank} if rank is not None else {}),
        "parts": [{"path": public_path(entry.path), "weight": entry.weight} for entry in entries],
    }


def combination_inputs(merge: MergeConfig) -> list[Any]:
    """Return [settings of COMBINED_BY by key, list of adapter fingerprints] that a combination depends on.

    Raises:
        CheckpointError: An adapter is missing or damaged.
    """
    values = {
        key: value for key, value in hashed(merge, "merge").items() if key in COMBINED_BY and key != "result"
    }
    return [values, [adapter_config.fingerprint(entry.path) for entry in merge.adapters]]


def summary(report: Combination) -> str:
    """Return a line on a combination of adapters for the log: weights, method, rank, distance from sum.

    The distance is in percent of the norm of the weighted sum of the updates.
    """
    weighted = " + ".join(f"{entry.weight:g} x {entry.path}" for entry in report.adapters)
    if report.difference is None:
        distance = "though the weighted sum is zero"
    elif report.difference < EXACT:
        distance = "the exact weighted sum"
    else:
        distance = f"{report.difference:.1%} of the weighted sum's size away from that sum"
        if report.method == MergeMethod.linear.value:
            distance += " (merge.method=cat is the sum)"
    return f"{weighted} by {report.method}, rank {report.rank} in {report.num_layers} layers, {distance}"
