"""Opens a path as one model's results: a run, a model of a run, or a folder of another tool."""

from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ConfigError
from workbench.evaluation.records import Prediction, Score
from workbench.leaderboard.collect import Run
from workbench.leaderboard.imported_items import ImportedItems
from workbench.leaderboard.imported_runs import ImportedRun, collect_all, collect_file
from workbench.leaderboard.imports.find import is_results_file
from workbench.shown import clean

PREDICTIONS = "predictions"
KINDS = (
    "a run folder, RUN/predictions/MODEL, a folder of lm-evaluation-harness with samples, "
    "or an OpenCompass folder"
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """Results of one of the two compared models."""

    path: Path
    """Folder that the user named, or the folder of the named file."""
    run: Run
    model: str
    """Name of the model in its run: base, adapter, ..., or the other tool's name for it."""

    @property
    def tool(self) -> str:
        """Return the other tool that scored the model; empty if this project did."""
        return clean(str(self.run.models.get(self.model, {}).get("tool", "")))

    @property
    def name(self) -> str:
        """Return a name for messages: the model, after its run folder if this project scored it."""
        name = self.model if self.tool else f"{self.run.label}/{self.model}"
        return " ".join(clean(name).split())

    def scores(self) -> dict[str, list[Score]]:
        """Return benchmark -> scores, the main metric first."""
        found: dict[str, list[Score]] = {}
        for score in self.run.scores:
            if score.model == self.model:
                found.setdefault(score.benchmark, []).append(score)
        return found

    def predictions(self, benchmark: str) -> list[Prediction]:
        """Return the predictions on a benchmark; an empty list if their file is missing.

        Raises:
            DataError: The file is damaged, or was changed since it was written.
        """
        return self.run.predictions(self.model, benchmark) or []

    def imported(self, benchmark: str) -> ImportedItems | None:
        """Return the items imported from another tool; None without any, or if this project scored them."""
        return self.run.items.get(benchmark) if isinstance(self.run, ImportedRun) else None


def open_side(path: str, key: str) -> Side:
    """Return the results that a path names: those of the only model in a run or folder of another tool.

    Args:
        path: A folder, also RUN/predictions/MODEL for one model of several; a results file of
            lm-evaluation-harness, which counts alone; or another file, which stands for its folder.
        key: Configuration key that has the path, for messages.

    Raises:
        ConfigError: The path doesn't exist, has results of no model or of several, or is a file beside
            several results files of lm-evaluation-harness.
    """
    folder, model, file = Path(path), "", Path(path)
    if file.is_file():
        folder = file.parent
        _check_file(file, key)
    if not folder.is_dir():
        raise ConfigError(f"{key}: {path!r} is not there ({KINDS})")
    place = folder
    if folder.resolve().parent.name == PREDICTIONS:
        model, place = folder.resolve().name, folder.resolve().parents[1]
    collection = collect_file(file) if is_results_file(file) else collect_all(place)
    found = [
        Side(path=folder, run=run, model=name)
        for run in collection.runs
        for name in dict.fromkeys(score.model for score in run.scores)
        if not model or (name == model and _is_in(run, place, folder))
    ]
    if not found:
        reasons = "; ".join(f"{entry.path}: {entry.reason}" for entry in collection.skipped[:3])
        raise ConfigError(f"{key}: {path!r} has no results ({clean(reasons) or KINDS})")
    if len(found) > 1:
        known = ", ".join(_path_of(side, place) for side in found[:8])
        raise ConfigError(f"{key}: {path!r} has results of {len(found)} models (name one: {known})")
    return found[0]


def _check_file(file: Path, key: str) -> None:
    """Refuse another file, such as one of samples, beside several results files: which one is meant?"""
    results = sorted(path for path in file.parent.iterdir() if is_results_file(path))
    if len(results) > 1 and not is_results_file(file):
        raise ConfigError(
            f"{key}: {str(file)!r} is beside {len(results)} results files (name one: {results[-1]})"
        )


def _is_in(run: Run, place: Path, folder: Path) -> bool:
    """Return whether a run's folder is `place` or `folder`."""
    return run.files.path.resolve() in (place.resolve(), folder.resolve())


def _path_of(side: Side, folder: Path) -> str:
    """Return the path to give as compare.a or compare.b to choose this model alone."""
    if isinstance(side.run, ImportedRun):
        return clean(str(side.run.files.path))
    place = folder if side.run.files.path == folder else side.run.files.path
    return clean(str(place / PREDICTIONS / side.model))
