"""Reads a model's loss curves, and the benchmark items in its training rows, for the page."""

import json
from dataclasses import asdict
from typing import Any

from workbench.leaderboard.collect import Run

CURVES = ("loss", "eval_loss", "validation_loss")
MOST_POINTS = 400
"""A curve with more points is thinned to every second, third, ... point."""

LONGEST = 64 * 2**20
"""Largest train.jsonl that is read, in bytes."""


def curves(run: Run) -> dict[str, list[list[float]]]:
    """Return loss, eval_loss and validation_loss from a run's train.jsonl: name -> [[step, value], ...].

    Long curves are thinned to about `MOST_POINTS` points. Empty if the file is missing, too large, or can't
    be read.
    """
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
    """Return benchmark -> its items that occur in the training rows, and a model's scores on the other items.

    The keys of a benchmark are num_items, num_short, found and clean, as in contamination.json, `clean` of
    the model called `name` alone. Empty if the rows were not searched.
    """
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
