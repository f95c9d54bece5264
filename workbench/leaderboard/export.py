"""Converts the leaderboard to JSON, for other programs."""

from dataclasses import asdict
from typing import Any

from workbench.leaderboard.view_model import Board, RunView
from workbench.shown import clean

SCHEMA_VERSION = 1


def as_json(board: Board) -> dict[str, Any]:
    """Return the board as JSON values: scores and differences, without samples."""
    return {
        "schema_version": SCHEMA_VERSION,
        "runs": [_run_json(view) for view in board.runs],
        "skipped": [{"path": clean(file.path), "reason": clean(file.reason)} for file in board.skipped],
    }


def _run_json(view: RunView) -> dict[str, Any]:
    """Return one run as JSON values."""
    return {
        "run": clean(view.run.label),
        "recipe": clean(view.run.recipe),
        "task": clean(view.run.task),
        "base_model": clean(view.run.base_model),
        "remarks": [clean(remark) for remark in view.run.remarks],
        "benchmarks": [
            {
                "benchmark": clean(row.benchmark),
                "language": clean(row.language),
                "metric": clean(row.metric),
                "protocol": clean(row.any_score.protocol),
                "num_fewshot": row.any_score.num_fewshot,
                "prompts": clean(row.any_score.prompts),
                "num_items": row.any_score.num_items,
                "chance": row.any_score.chance,
                "scores": {
                    clean(name): {"value": score.value, "interval": score.interval, "note": clean(score.note)}
                    for name, score in row.scores.items()
                },
                "difference": asdict(row.difference) if row.difference else None,
                "flips": asdict(row.flips) if row.flips else None,
                "problem": clean(row.problem),
            }
            for row in view.rows
        ],
        "means": {
            clean(language): {clean(name): asdict(mean) for name, mean in means.items()}
            for language, means in view.means.items()
        },
        "gains": {clean(language): asdict(gain) for language, gain in view.gains.items()},
    }
