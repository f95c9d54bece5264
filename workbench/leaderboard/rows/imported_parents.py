"""Finds the base of each adapter that another tool scored."""

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.leaderboard.collect import Run
from workbench.leaderboard.rows.roles import IMPORTED

HELD = ("dtype", "quantization", "revision")
"""Facts that must be equal between an adapter's row and its base's row."""


def parents_of_imported(runs: Sequence[Run], keys: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Return the row key of each imported adapter -> the row key of its base.

    The base is the imported model without an adapter that is called as the adapter's facts name its base, and
    has the same `HELD` facts. Adapters without such a base on the board are left out.

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
