"""Reads what the page shows of a model's training: its losses, and benchmark items in its training rows."""

import json
from dataclasses import asdict
from typing import Any

from workbench.leaderboard.collect import Run

CURVES = ("loss", "eval_loss", "validation_loss")
MOST_POINTS = 400
"""Points of a curve; of more, every second, third, ... one is taken."""

LONGEST = 64 * 2**20
"""Bytes of a train.jsonl that is read."""


def curves(run: Run) -> dict[str, list[list[float]]]:
    """Return each loss that train.jsonl has, as [step, value]; empty if there is none."""
    path = run.files.train_jsonl
    try:
        if not path.is_file() or path.stat().st_size > LONGEST:
            return {}
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[str, list[list[float]]] = {}
    for row in rows if all(isinstance(row, dict) for row in rows) else []:
        for name in CURVES:
            step, value = row.get("step"), row.get(name)
            if isinstance(step, int) and isinstance(value, int | float) and abs(value) < 1e100:
                found.setdefault(name, []).append([step, value])
    return {name: points[:: 1 + len(points) // MOST_POINTS] for name, points in found.items()}


def contamination(run: Run, name: str) -> dict[str, Any]:
    """Return what was found of each benchmark in the training rows, with the clean scores of one model."""
    if run.contamination is None:
        return {}
    return {
        benchmark: {
            "num_items": facts.num_items,
            "num_short": facts.num_short,
            "found": [asdict(item) for item in facts.found],
            "clean": facts.clean.get(name, {}),
        }
        for benchmark, facts in run.contamination.benchmarks.items()
    }
