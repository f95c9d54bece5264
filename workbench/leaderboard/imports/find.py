"""Finds results of other tools below a folder."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench.errors import DataError
from workbench.leaderboard.imported_items import ImportedResults, LeftOut
from workbench.leaderboard.imports import compass_folder, harness_folder


def imported_results(
    folder: Path, without: Sequence[str] = ()
) -> tuple[list[ImportedResults], list[LeftOut]]:
    """Return the results of other tools below a folder, and the files that are left out.

    Of several results of one model in one folder the latest stands for a benchmark; the others are left out.

    Args:
        folder: Searched with all folders below it.
        without: Names of folders that are not searched.
    """
    results: list[ImportedResults] = []
    left_out: list[LeftOut] = []
    for parent, names, files in os.walk(folder):
        path = Path(parent)
        for found, reasons in (*_of_harness(path, files), *_of_compass(path, names)):
            results += [found] if found else []
            left_out += reasons
        names[:] = sorted(name for name in names if name not in without and not name.startswith("."))
    return results, left_out


Found = tuple[ImportedResults | None, list[LeftOut]]


def _of_harness(folder: Path, files: Sequence[str]) -> Iterator[Found]:
    """Yield what the results files of lm-evaluation-harness in a folder hold, later ones first."""
    known: set[tuple[str, str]] = set()
    for name in sorted(filter(harness_folder.RESULTS_NAME.fullmatch, files), reverse=True):
        path = folder / name
        try:
            results, left_out = harness_folder.read_folder(path)
        except (DataError, OSError) as error:
            yield None, [LeftOut(path, str(error).removeprefix(f"{path}: "))]
            continue
        if results is None:
            yield None, left_out
            continue
        older = [benchmark for benchmark in results.items if (results.model, benchmark) in known]
        known |= {(results.model, benchmark) for benchmark in results.items}
        if older:
            left_out.append(LeftOut(path, f"a later file has the same model on {', '.join(older)}"))
        yield _without(results, older), left_out


def _without(results: ImportedResults, benchmarks: Sequence[str]) -> ImportedResults | None:
    for benchmark in benchmarks:
        del results.items[benchmark]
    results.scores[:] = [score for score in results.scores if score.benchmark in results.items]
    return results if results.scores else None


def _of_compass(folder: Path, names: Sequence[str]) -> Iterator[Found]:
    """Yield what a folder holds of each model that OpenCompass has asked."""
    if compass_folder.PREDICTIONS not in names or (folder / "results.json").exists():
        return
    for path in sorted((folder / compass_folder.PREDICTIONS).iterdir()):
        if path.is_dir() and any(path.glob("*.json")):
            yield compass_folder.read_model(folder, path.name)
