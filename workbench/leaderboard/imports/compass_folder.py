"""Reads the folder of one OpenCompass run: predictions/MODEL/DATASET.json and results/MODEL/DATASET.json.

Source: OpenCompass 0.5.4, `utils/abbr.get_infer_output_path` and `partitioners` (names of the files).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import DataError
from workbench.evaluation.benchmarks.language import MOST_LETTERS, language
from workbench.evaluation.records import Score
from workbench.leaderboard.imported_items import ImportedItems, ImportedResults, LeftOut, joined
from workbench.leaderboard.imports.compass_items import has_examples, read_items
from workbench.leaderboard.imports.scores import score_of

TOOL = "OpenCompass"
"""OpenCompass, whose files don't contain its version."""
PREDICTIONS, RESULTS = "predictions", "results"
SUBJECTS = {
    "cmmlu-": "cmmlu",
    "ceval-test-": "ceval-test",
    "ceval-": "ceval",
    "lukaemon_mmlu_": "mmlu",
    "mmlu_pro_": "mmlu_pro",
    "agieval-": "agieval",
    "bbh-": "bbh",
    "GaokaoBench_": "gaokao-bench",
    "FinanceIQ-": "financeiq",
}
"""Prefix of a dataset's name -> benchmark of which the dataset is a subject."""
PART = re.compile(r"(?P<name>.+)_(?P<number>\d+)")
UNFINISHED = "tmp_"
SHOWN_FOR_LANGUAGE = 200


@dataclass(frozen=True)
class Dataset:
    """One OpenCompass dataset: its predictions files, and the items of one model."""

    paths: list[Path]
    items: ImportedItems


def read_model(folder: Path, model: str) -> tuple[ImportedResults | None, list[LeftOut]]:
    """Return one model's results in a run of OpenCompass, and the files that are left out, with the reasons.

    The results are None if the items of no dataset can be read.

    Args:
        folder: Folder of the run, which has a folder `predictions`.
        model: Name of the model's folder in `predictions`.
    """
    datasets: dict[str, Dataset] = {}
    left_out: list[LeftOut] = []
    for name, paths in _files(folder, model).items():
        _, subject = _benchmark(name)
        try:
            if name.startswith(UNFINISHED):
                raise DataError("unfinished (a temporary file of OpenCompass)")
            items = read_items(paths, folder / RESULTS / model / f"{name}.json", subject)
            datasets[name] = Dataset(paths, items)
        except DataError as error:
            left_out.append(LeftOut(paths[0], str(error).removeprefix(f"{paths[0]}: ")))
    scores, items_of = _benchmarks(datasets, model)
    if not items_of:
        return None, left_out
    results = ImportedResults(
        path=folder / PREDICTIONS / model,
        tool=TOOL,
        model=model,
        facts={},
        measured={},
        scores=scores,
        items=items_of,
    )
    return results, left_out


def _files(folder: Path, model: str) -> dict[str, list[Path]]:
    """Return dataset -> its predictions files; OpenCompass splits a large dataset into numbered parts."""
    paths = {path.stem: path for path in sorted((folder / PREDICTIONS / model).glob("*.json"))}
    found: dict[str, list[Path]] = {}
    for name, path in paths.items():
        part = PART.fullmatch(name)
        whole = part["name"] if part else ""
        is_part = (
            part and whole not in paths and f"{whole}_0" in paths and _is_part(folder, model, whole, name)
        )
        found.setdefault(whole if is_part else name, []).append(path)
    for members in found.values():
        members.sort(key=lambda path: (len(path.stem), path.stem))
    return found


def _is_part(folder: Path, model: str, whole: str, name: str) -> bool:
    """Return whether the predictions `name` are a part of dataset `whole`, not a dataset called `name`.

    They are if `whole` has a results file, or `name` has none.
    """
    results = folder / RESULTS / model
    return (results / f"{whole}.json").is_file() or not (results / f"{name}.json").is_file()


def _benchmark(dataset: str) -> tuple[str, str]:
    """Return the benchmark and subject of a dataset; the subject is empty if the dataset is a benchmark."""
    for beginning, benchmark in SUBJECTS.items():
        if dataset.startswith(beginning):
            return benchmark, dataset.removeprefix(beginning)
    return dataset, ""


def _benchmarks(datasets: Mapping[str, Dataset], model: str) -> tuple[list[Score], dict[str, ImportedItems]]:
    """Join the datasets that are subjects of one benchmark; return all scores, and benchmark -> its items.

    A benchmark's score is the mean of its subjects' means, as in OpenCompass's tables.
    """
    members: dict[str, list[Dataset]] = {}
    for name, dataset in datasets.items():
        members.setdefault(_benchmark(name)[0], []).append(dataset)
    scores: list[Score] = []
    items: dict[str, ImportedItems] = {}
    for benchmark, parts in members.items():
        whole = joined([part.items for part in parts])
        for metric in whole.values:
            scores.append(
                score_of(
                    whole,
                    metric,
                    average="macro" if len(parts) > 1 else "micro",
                    model=model,
                    benchmark=benchmark,
                    language=_language(parts[0].items),
                    num_fewshot=0,
                    protocol=f"{TOOL}, with examples" if has_examples(parts[0].paths) else TOOL,
                )
            )
        if whole.values:
            items[benchmark] = whole
    return scores, items


def _language(items: ImportedItems) -> str:
    return language(prediction.context[-MOST_LETTERS:] for prediction in items.read()[:SHOWN_FOR_LANGUAGE])
