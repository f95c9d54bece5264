"""Finds results of other tools below a folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.files import fingerprint
from workbench.leaderboard.imported_items import ImportedResults, LeftOut
from workbench.leaderboard.imports import compass_folder, harness_folder
from workbench.leaderboard.run_files import folders_below


def is_results_file(path: Path) -> bool:
    """Return whether a file's name is that of a results file of lm-evaluation-harness."""
    return harness_folder.RESULTS_NAME.fullmatch(path.name) is not None


def results_in(file: Path) -> tuple[list[ImportedResults], list[LeftOut]]:
    """Return the results in one results file of lm-evaluation-harness, and the files that are left out.

    There is at most one result; none if the file or all its samples files can't be read.
    """
    found = list(_of_harness(file.parent, [file.name]))
    return [results for results, _ in found if results], [entry for _, reasons in found for entry in reasons]


def imported_results(folder: Path) -> tuple[list[ImportedResults], list[LeftOut]]:
    """Return the results of other tools below a folder, and the files that are left out.

    All files of one model in one folder form one result. If several files have the same benchmark, the newest
    counts and the others are left out.
    """
    results: list[ImportedResults] = []
    left_out: list[LeftOut] = []
    for path, names, files in folders_below(folder):
        for found, reasons in (*_of_harness(path, files), *_of_compass(path, names)):
            results += [found] if found else []
            left_out += reasons
    return results, left_out


Found = tuple[ImportedResults | None, list[LeftOut]]


def _of_harness(folder: Path, files: Sequence[str]) -> Iterator[Found]:
    """Yield each model's results from the lm-evaluation-harness files in a folder, and the files left out."""
    models: dict[str, ImportedResults] = {}
    known: set[tuple[str, str]] = set()
    for name in sorted(filter(harness_folder.RESULTS_NAME.fullmatch, files), reverse=True):
        path = folder / name
        try:
            results, left_out = harness_folder.read_folder(path)
        except (DataError, OSError) as error:
            yield None, [LeftOut(path, str(error).removeprefix(f"{path}: "))]
            continue
        if results is not None:
            older = [benchmark for benchmark in results.items if (results.model, benchmark) in known]
            known |= {(results.model, benchmark) for benchmark in results.items}
            if older:
                left_out.append(LeftOut(path, f"a later file has the same model on {', '.join(older)}"))
            _add(models, _without(results, older))
        yield None, left_out
    yield from ((results, []) for results in models.values())


def _add(models: dict[str, ImportedResults], results: ImportedResults | None) -> None:
    """Merge an earlier file's results into those of the same model in `models`, or add a new entry."""
    if results is None:
        return
    later = models.setdefault(fingerprint([results.tool, results.model, results.facts]), results)
    if later is not results:
        later.scores.extend(results.scores)
        later.items.update(results.items)
        later.measured.update(_joined(results.measured, later.measured))


def _joined(older: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings recursively; values of `later` win."""
    sections = {
        name: _joined(older[name], value)
        for name, value in later.items()
        if isinstance(value, dict) and isinstance(older.get(name), dict)
    }
    return {**older, **later, **sections}


def _without(results: ImportedResults, benchmarks: Sequence[str]) -> ImportedResults | None:
    for benchmark in benchmarks:
        del results.items[benchmark]
    results.scores[:] = [score for score in results.scores if score.benchmark in results.items]
    return results if results.scores else None


def _of_compass(folder: Path, names: Sequence[str]) -> Iterator[Found]:
    """Yield the results of each model of an OpenCompass run; nothing if the folder isn't of such a run."""
    if compass_folder.PREDICTIONS not in names or (folder / "results.json").exists():
        return
    for path in sorted((folder / compass_folder.PREDICTIONS).iterdir()):
        if path.is_dir() and any(path.glob("*.json")):
            yield compass_folder.read_model(folder, path.name)
