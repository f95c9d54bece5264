"""Every run below a folder, read from the files it left; what can't be read is named and skipped."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.config.names import ADAPTER, MERGED, TRAINED
from workbench.errors import ConfigError, DataError
from workbench.evaluation.records import Prediction, Score, read_predictions, read_results
from workbench.evaluation.result_checksums import ADAPTER_DIGEST, CheckedResults, check_results
from workbench.files import file_fingerprint, read_json
from workbench.leaderboard.checks import check_score, sound_facts
from workbench.run_dir import RunDir
from workbench.run_record import read_record

NAMES = RunDir(Path())
RESULTS = NAMES.results_json.name
INSIDE_A_RUN = {
    *(NAMES.checkpoints.name, NAMES.adapter.name, NAMES.merged.name, NAMES.model.name),
    *(NAMES.all_predictions.name, NAMES.cache.name),
}
"""Folders in which no run is looked for."""

MOST_NAMED = 4
"""Scores that a remark names."""

UNVERIFIED = "not verified"


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
    trained: dict[str, Any] = field(default_factory=dict)
    """train.json: what became of the rows, and how many answers end by themselves."""
    merge_problem: str = ""
    """Why the merged model has no proof, where it should have one."""
    steps: dict[str, Any] = field(default_factory=dict)
    """Of run.json: the fingerprints of what each step left."""
    remarks: list[str] = field(default_factory=list)
    """What a reader must know before trusting the numbers."""

    def predictions(self, model: str, benchmark: str) -> list[Prediction] | None:
        """One model's answers on one benchmark; None if they weren't kept.

        Raises:
            DataError: the file is damaged, or not as it was written.
        """
        path = self.files.predictions(model, benchmark)
        entry = self.steps.get(f"evaluate/{model}/{benchmark}")
        try:
            if not path.is_file():
                return None
            if isinstance(entry, dict) and entry["output"] != file_fingerprint(path):
                raise DataError(f"{path}: not as it was written")
            return read_predictions(path)
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
    runs: list[Run] = []
    skipped: list[Skipped] = []
    for path in _results_below(folder):
        label = path.parent.relative_to(folder).as_posix()
        try:
            run, changed = _run(path, folder.resolve().name if label == "." else label)
        except (DataError, OSError) as error:
            run, changed = None, [str(error).removeprefix(f"{path}: ")]
        except RecursionError:
            run, changed = None, ["not the results of a run of this project (nested too deeply)"]
        runs += [run] if run else []
        name = path.relative_to(folder).as_posix()
        skipped += [Skipped(path=name, reason=" ".join(reason.split())) for reason in changed]
    return Collection(runs=runs, skipped=skipped)


def _results_below(folder: Path) -> Iterator[Path]:
    """Each results.json, in the order of the paths."""
    for here, folders, files in os.walk(folder):
        names = [name for name in folders if name not in INSIDE_A_RUN and not name.startswith(".")]
        if RESULTS in files or RESULTS in names:  # a folder of that name is told as well
            yield Path(here) / RESULTS
        folders[:] = sorted(name for name in names if name != RESULTS)


def _run(path: Path, label: str) -> tuple[Run | None, list[str]]:
    """The run that a results.json belongs to, and what of it is left out, in words.

    Raises:
        DataError: it isn't one, or its numbers are no numbers, or it isn't as it was written.
    """
    if not path.is_file():
        raise DataError(f"{path}: not the results of a run of this project (not a file)")
    facts, scores = read_results(path)
    for number, score in enumerate(scores, 1):
        check_score(score, f"{path}: score {number}")
    files = RunDir(path.parent)
    record, remarks = _record(files)
    checked = check_results(path, record)
    models = facts.get("models")
    report, merge_problem = _merge_report(files, record)
    replaced = _replaced(models if isinstance(models, dict) else {}, record, report)
    sound = [
        score
        for score in scores
        if (score.model, score.benchmark) not in checked.changed and score.model not in replaced
    ]
    run = Run(
        label=label,
        files=files,
        recipe=str(facts.get("recipe") or ""),
        task=str(facts.get("task") or ""),
        base_model=str(facts.get("base_model") or ""),
        models={
            str(name): sound_facts(value)
            for name, value in (models if isinstance(models, dict) else {}).items()
            if isinstance(value, dict) and name not in replaced
        },
        scores=sound,
        measured=sound_facts(record),
        merge_report=report,
        trained=_train_json(files.train_json),
        steps=record.get("steps", {}),
        merge_problem=merge_problem,
        remarks=[*remarks, *_unverified(sound, checked), *([merge_problem] if merge_problem else [])],
    )
    changed = [
        f"the scores of {model} on {benchmark} are not as they were written, and are left out "
        f"(recipe=evaluate run_dir={files.path} makes them again)"
        for model, benchmark in sorted(checked.changed)
    ]
    changed += [
        f"the scores of {model} are those of an earlier training or merge, and are left out "
        f"(recipe=evaluate run_dir={files.path} scores what lies there now)"
        for model in sorted(replaced & {score.model for score in scores})
    ]
    return (run if sound or not changed else None), changed


def _record(files: RunDir) -> tuple[dict[str, Any], list[str]]:
    """What run.json holds, and what there is to say of it; empty where it can't be read or isn't there."""
    if not files.run_json.exists():
        return {}, []
    try:
        return read_record(files.run_json), []
    except (DataError, OSError):
        return {}, [f"{files.run_json.name} is damaged, or not as it was written"]


def _unverified(scores: list[Score], checked: CheckedResults) -> list[str]:
    """What there is to say of scores that no checksum vouches for."""
    keys = {(score.model, score.benchmark) for score in scores}
    unverified = sorted(keys & checked.unverified)
    if not unverified:
        return []
    which = "its scores" if len(unverified) == len(keys) else "those of "
    if len(unverified) < len(keys):
        which += ", ".join(f"{model} on {benchmark}" for model, benchmark in unverified[:MOST_NAMED])
        which += f" and {len(unverified) - MOST_NAMED} more" if len(unverified) > MOST_NAMED else ""
    return [
        f"{UNVERIFIED}: {which} have no checksums (of an earlier version, or copied without their run.json)"
    ]


def _replaced(models: dict[str, Any], record: dict[str, Any], report: dict[str, Any]) -> set[str]:
    """The models that a later step of the run has made anew since they were scored."""
    steps = record.get("steps", {})
    adapter = steps.get("train", {}).get(ADAPTER_DIGEST)
    proven = report.get("fingerprints")
    merged_from = proven.get("adapter") if isinstance(proven, dict) else None
    pairs = {
        ADAPTER: (_fact(models, ADAPTER, "adapter"), adapter),
        MERGED: (_fact(models, MERGED, "weights"), steps.get("merge", {}).get("output")),
        TRAINED: (_fact(models, TRAINED, "weights"), steps.get("train", {}).get("output")),
    }
    replaced = {name for name, (scored, made) in pairs.items() if scored and made and scored != made}
    is_older_merge = merged_from and adapter and merged_from != adapter
    return replaced | ({MERGED} if is_older_merge else set())


def _fact(models: dict[str, Any], model: str, key: str) -> Any:
    facts = models.get(model)
    return facts.get(key) if isinstance(facts, dict) else None


def _train_json(path: Path) -> dict[str, Any]:
    """What train.json says; empty if there is none, or none that can be read."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _merge_report(files: RunDir, record: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The proof of the merge where it is as it was written, and what is wrong with it otherwise."""
    path = files.merge_report
    entry = record.get("steps", {}).get("merge")
    digest = entry.get("files", {}).get(path.name) if isinstance(entry, dict) else None
    if not path.is_file():
        return {}, "" if entry is None else f"{path.name} is missing, the merge is not proven"
    if digest is not None and file_fingerprint(path) != digest:
        return {}, f"{path.name} is not as it was written, the merge is not proven"
    try:
        return sound_facts(read_json(path)), ""
    except (ValueError, OSError):
        return {}, f"{path.name} can't be read, the merge is not proven"
