"""Finds the base of an adapter among rows of another tool."""

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.leaderboard.collect import Run
from workbench.leaderboard.rows.roles import IMPORTED

HELD = ("dtype", "quantization", "revision")
"""What an adapter's base and the base alone must have in common besides the path."""


def parents_of_imported(runs: Sequence[Run], keys: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Return row of an imported adapter -> row of its base, which the same tool scored without an adapter.

    Args:
        runs: All runs.
        keys: (run label, model of the run) -> key of its row.
    """
    bases: dict[tuple[Any, ...], str] = {}
    adapters: dict[str, tuple[Any, ...]] = {}
    for run in runs:
        for name, facts in run.models.items():
            key = keys.get((run.label, name))
            if facts.get("role") != IMPORTED or key is None:
                continue
            held = tuple(facts.get(fact) for fact in HELD)
            if facts.get("adapter"):
                adapters[key] = (facts.get("base"), *held)
            else:
                bases.setdefault((name, *held), key)
    return {key: bases[base] for key, base in adapters.items() if base in bases}
