"""Every run below a folder, read from the files it left; what can't be read is named and skipped."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, DataError
from workbench.evaluation.records import Prediction, Score, read_predictions, read_results
from workbench.run_dir import RunDir

RESULTS = RunDir(Path()).results_json.name
INSIDE_A_RUN = {"checkpoints", "adapter", "merged", "model", "predictions", "cache"}
"""Folders in which no run is looked for."""

TEXTS = ("model", "benchmark", "language", "metric", "protocol", "prompts", "note")


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that is not shown, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run left behind."""

    label: str
    """Its folder below the leaderboard's: unique, and the same on every machine."""
    files: RunDir
    recipe: str
    task: str
    base_model: str
    models: dict[str, dict[str, Any]]
    """Model -> quantization, dtype and fingerprints."""
    scores: list[Score]
    measured: dict[str, Any] = field(default_factory=dict)
    """run.json: times, memory, versions, machine."""
    merge_report: dict[str, Any] = field(default_factory=dict)

    def predictions(self, model: str, benchmark: str) -> list[Prediction] | None:
        """One model's answers on one benchmark; None if they weren't kept.

        Raises:
            DataError: the file is damaged.
        """
        path = self.files.predictions(model, benchmark)
        try:
            return read_predictions(path) if path.is_file() else None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path.name}: can't be read ({error})") from error


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The runs that were found, by label, and the files that were not usable."""

    runs: list[Run]
    skipped: list[Skipped]


def collect(folder: Path) -> Collection:
    """All runs below `folder`, whatever state they are in.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"leaderboard.folder: {str(folder)!r} is no folder")
    runs, skipped = [], []
    for path in _results_below(folder):
        label = path.parent.relative_to(folder).as_posix()
        try:
            runs.append(_run(path, folder.resolve().name if label == "." else label))
        except (DataError, OSError) as error:
            reason = str(error).removeprefix(f"{path}: ")
            skipped.append(Skipped(path=path.relative_to(folder).as_posix(), reason=" ".join(reason.split())))
    return Collection(runs=runs, skipped=skipped)


def _results_below(folder: Path) -> Iterator[Path]:
    """Each results.json, in the order of the paths."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in INSIDE_A_RUN and not name.startswith("."))
        if RESULTS in files:
            yield Path(here) / RESULTS


def _run(path: Path, label: str) -> Run:
    """The run that a results.json belongs to.

    Raises:
        DataError: it isn't one, or its numbers are no numbers.
    """
    facts, scores = read_results(path)
    for number, score in enumerate(scores, 1):
        _check(score, f"{path}: score {number}")
    models = facts.get("models")
    files = RunDir(path.parent)
    return Run(
        label=label,
        files=files,
        recipe=str(facts.get("recipe") or ""),
        task=str(facts.get("task") or ""),
        base_model=str(facts.get("base_model") or ""),
        models={
            str(name): value
            for name, value in (models if isinstance(models, dict) else {}).items()
            if isinstance(value, dict)
        },
        scores=scores,
        measured=_optional(files.run_json),
        merge_report=_optional(files.merge_report),
    )


def _optional(path: Path) -> dict[str, Any]:
    """A JSON object that a run may have left; empty if there is none, or none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _check(score: Score, where: str) -> None:
    """Raise DataError unless every field of a score holds what its name says."""
    for name in TEXTS:
        if not isinstance(getattr(score, name), str):
            raise DataError(f"{where}: {name} is {getattr(score, name)!r} (a text)")
    numbers: dict[str, float | None] = {"value": score.value, "num_items": score.num_items}
    numbers["num_fewshot"] = score.num_fewshot
    optional = {"stderr": score.stderr, "chance": score.chance, "majority": score.majority}
    numbers |= {name: value for name, value in optional.items() if value is not None}
    if score.interval is not None:
        if not isinstance(score.interval, list) or len(score.interval) != 2:
            raise DataError(f"{where}: interval is {score.interval!r} (two numbers, or null)")
        numbers |= {"interval": score.interval[0], "interval's end": score.interval[1]}
    if not isinstance(score.letters, dict):
        raise DataError(f"{where}: letters are {score.letters!r} (letter: count)")
    numbers |= {"permutations": score.permutations, "num_shots_dropped": score.num_shots_dropped}
    numbers |= {f"letters.{letter}": count for letter, count in score.letters.items()}
    for parts in (score.subsets, score.groups):
        if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
            raise DataError(f"{where}: subsets or groups are {parts!r} (name: value and num_items)")
        numbers |= {
            f"{name}.{key}": part.get(key) for name, part in parts.items() for key in ("value", "num_items")
        }
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{where}: {name} is {value!r} (a number)")
