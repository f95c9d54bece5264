"""Collects this project's runs below a folder together with results of other tools."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.errors import DataError
from workbench.evaluation.records import Prediction, Score
from workbench.leaderboard.collect import Collection, Run, Skipped, collect
from workbench.leaderboard.imported_items import ImportedItems, ImportedResults, LeftOut
from workbench.leaderboard.imports.alignment import Reference, aligned
from workbench.leaderboard.imports.find import imported_results, results_in
from workbench.leaderboard.rows.roles import IMPORTED
from workbench.leaderboard.run_files import label_of
from workbench.run_dir import RunDir
from workbench.shown import in_one_line


@dataclass(frozen=True, kw_only=True)
class ImportedRun(Run):
    """Results of one model from another tool, in the form of a run of this project."""

    def predictions(self, model: str, benchmark: str) -> list[Prediction] | None:
        """Return the predictions on one benchmark, read from the tool's file; None if it wasn't imported.

        An imported run has only one model, so `model` isn't looked at.

        Raises:
            DataError: The file can't be read, or was changed since it was collected.
        """
        items = self.items.get(benchmark)
        if items is None:
            return None
        predictions = items.read()
        if len(predictions) != len(items.ids):
            raise DataError(f"{benchmark}: was changed while it was read")
        pairs = zip(predictions, items.clusters, strict=True)
        return [replace(one, cluster=cluster) if cluster else one for one, cluster in pairs]


def collect_all(folder: Path) -> Collection:
    """Return all runs below `folder`: this project's first, then results of other tools as runs.

    If at least half of a benchmark's prompts are those of an earlier run, the imported items get the ids and
    order of that run's items, so that the scores can be paired.

    Raises:
        ConfigError: The folder doesn't exist.
    """
    own = collect(folder)
    return _with_imports(own, folder, *imported_results(folder))


def collect_file(file: Path) -> Collection:
    """Return the results in one results file of lm-evaluation-harness and its samples files, as one run.

    There is no run if they can't be read; `skipped` has the reasons. Other results files aren't read.
    """
    return _with_imports(Collection(runs=[], skipped=[]), file.parent, *results_in(file))


def _with_imports(
    own: Collection, folder: Path, results: Sequence[ImportedResults], left_out: Sequence[LeftOut]
) -> Collection:
    """Add results of other tools to this project's runs in a folder."""
    runs = [*own.runs]
    for found in results:
        runs.append(_run(found, folder, runs))
    skipped = [
        Skipped(path=entry.path.relative_to(folder).as_posix(), reason=in_one_line(entry.reason))
        for entry in left_out
    ]
    return replace(own, runs=runs, skipped=[*own.skipped, *skipped])


def _run(results: ImportedResults, folder: Path, others: Sequence[Run]) -> ImportedRun:
    scores: list[Score] = []
    items: dict[str, ImportedItems] = {}
    for benchmark, own in results.items.items():
        found = own, [score for score in results.scores if score.benchmark == benchmark]
        for reference in _references(benchmark, others):
            if (there := aligned(*found, reference)) is not None:
                found = there
                break
        scores += found[1]
        items[found[1][0].benchmark] = found[0]
    return ImportedRun(
        label=_label(results.path, folder, others),
        files=RunDir(results.path),
        recipe="",
        task="",
        base_model=results.model,
        models={results.model: {"role": IMPORTED, "tool": results.tool, **results.facts}},
        scores=scores,
        measured=results.measured,
        remarks=results.remarks,
        items=items,
    )


def _label(path: Path, folder: Path, others: Sequence[Run]) -> str:
    """Return a label for imported results: their path relative to the folder, as `results (2)` if taken."""
    label = label_of(path, folder)
    used = {run.label for run in others}
    number = 2
    unique = label
    while unique in used:
        unique, number = f"{label} ({number})", number + 1
    return unique


def _references(benchmark: str, others: Sequence[Run]) -> list[Reference]:
    """Return the items of earlier runs that imported items of this benchmark may be paired with.

    There is one entry per benchmark, protocol, number of shots and rule. A run's benchmark matches by its
    name, or by its name after a prefix such as `lm_eval.`.
    """
    found: dict[tuple[object, ...], Reference] = {}
    for run in others:
        for score in run.scores:
            asked = (score.benchmark, score.protocol, score.num_fewshot, score.rule)
            if asked in found or benchmark not in (score.benchmark, score.benchmark.partition(".")[2]):
                continue
            reference = _reference(run, score)
            if reference is not None:
                found[asked] = reference
    return list(found.values())


def _reference(run: Run, score: Score) -> Reference | None:
    scores = [one for one in run.scores if (one.model, one.benchmark) == (score.model, score.benchmark)]
    if isinstance(run, ImportedRun):
        items = run.items[score.benchmark]
        lists = (items.ids, items.subsets, items.prompts, items.clusters)
    else:
        try:
            predictions = run.predictions(score.model, score.benchmark)
        except DataError:
            return None  # the board reports this problem
        if not predictions:
            return None
        lists = (
            [one.id for one in predictions],
            [one.subset for one in predictions],
            [one.prompt_hash for one in predictions],
            [one.cluster for one in predictions],
        )
    ids, subsets, prompts, clusters = lists
    return Reference(ids=ids, subsets=subsets, prompts=prompts, clusters=clusters, scores=scores)
