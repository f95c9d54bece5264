"""Collects the runs below a folder from their files; unreadable files are skipped and reported."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.config.names import ADAPTER, MERGED, TRAINED
from workbench.errors import ConfigError, DataError
from workbench.evaluation.contamination_report import ContaminationReport, contamination_of
from workbench.evaluation.records import Prediction, Score, read_predictions, read_results
from workbench.evaluation.result_checksums import ADAPTER_DIGEST, check_results
from workbench.files import read_json
from workbench.leaderboard.board import Skipped as Skipped
from workbench.leaderboard.checks import check_score, sound_facts
from workbench.leaderboard.early_decisions import EarlyComparison, comparisons_below
from workbench.leaderboard.file_digests import file_digest
from workbench.leaderboard.imported_items import ImportedItems
from workbench.leaderboard.run_files import FAILURE, RESULTS, config_of, files_below, label_of, train_json_of
from workbench.leaderboard.run_remarks import merge_report_of, record_of, unverified
from workbench.run_dir import RunDir
from workbench.shown import in_one_line, message


@dataclass(frozen=True, kw_only=True)
class Run:
    """Results of one run folder: the scores of its models, and facts about these models."""

    label: str
    """Path of the run folder relative to the leaderboard's folder."""
    files: RunDir
    recipe: str
    task: str
    base_model: str
    models: dict[str, dict[str, Any]]
    """Model (base, adapter, ...) -> quantization, dtype and fingerprints, from results.json."""
    scores: list[Score]
    measured: dict[str, Any] = field(default_factory=dict)
    """Contents of run.json: times, memory, versions, machine."""
    merge_report: dict[str, Any] = field(default_factory=dict)
    """Contents of merge_report.json; empty if nothing was merged, or if the merge is not proven."""
    trained: dict[str, Any] = field(default_factory=dict)
    """Contents of train.json: how the training rows were used, and how many answers stop by themselves."""
    merge_problem: str = ""
    """Why the merge is not proven; empty if it is proven, or if nothing was merged."""
    steps: dict[str, Any] = field(default_factory=dict)
    """Fingerprints of each step's output, from run.json."""
    contamination: ContaminationReport | None = None
    """Benchmark items that also occur in the training rows; None if the rows were not searched."""
    remarks: list[str] = field(default_factory=list)
    """Warnings that a reader needs before trusting the numbers."""
    config: dict[str, Any] = field(default_factory=dict)
    """Sections of config.yaml before the benchmarks; empty if the file was changed after the run."""

    answers: dict[tuple[str, str], list[Prediction]] = field(default_factory=dict)
    """(model, benchmark) -> predictions in memory, for results that have no files."""

    items: dict[str, ImportedItems] = field(default_factory=dict)
    """Benchmark -> item scores and answers that were imported from another tool."""

    @property
    def given_name(self) -> str:
        """Name that the user gave the run's model by `evaluate.name`; empty if none."""
        name = self.measured.get("name")
        return name if isinstance(name, str) else ""

    def file_of(self, model: str, benchmark: str) -> tuple[Path, str] | None:
        """Return path and `file_digest` of a model's predictions file on a benchmark; None if there is none.

        Raises:
            DataError: The file was changed since it was written, or can't be read.
        """
        path = self.files.predictions(model, benchmark)
        entry = self.steps.get(f"evaluate/{model}/{benchmark}")
        try:
            if not path.is_file():
                return None
            digest = file_digest(path)
        except OSError as error:
            raise DataError(
                message("{file}: can't be read ({error})", file=path.name, error=error)
            ) from error
        if isinstance(entry, dict) and entry["output"] != digest:
            raise DataError(
                message("{file}: was changed since it was written", file=path.relative_to(self.files.path))
            )
        return path, digest

    def predictions(self, model: str, benchmark: str) -> list[Prediction] | None:
        """Return one model's predictions on one benchmark, read from its file; None if there is no file.

        Raises:
            DataError: The file is damaged, or was changed since it was written.
        """
        file = self.file_of(model, benchmark)
        try:
            return None if file is None else read_predictions(file[0])
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{benchmark}.jsonl: can't be read ({error})") from error


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A model that could not be scored, from failure.json in the folder of its run."""

    label: str
    """Path of the run folder relative to the leaderboard's folder."""
    name: str
    facts: dict[str, Any]
    """path, adapter, quantization and dtype of the model."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Everything that was collected below a folder: runs, failures, comparisons, and skipped files."""

    runs: list[Run]
    skipped: list[Skipped]
    failures: list[Failure] = field(default_factory=list)
    comparisons: list[EarlyComparison] = field(default_factory=list)


def collect(folder: Path) -> Collection:
    """Read all runs below `folder`, also of unfinished evaluations; list the files that can't be used.

    Raises:
        ConfigError: The folder doesn't exist.
    """
    if not folder.is_dir():
        raise ConfigError(f"leaderboard.folder: {str(folder)!r} is not a folder")
    runs: list[Run] = []
    skipped: list[Skipped] = []
    for path in _results_below(folder):
        try:
            run, reasons = _run(path, label_of(path.parent, folder))
        except (DataError, OSError) as error:
            run, reasons = None, [str(error).removeprefix(f"{path}: ")]
        except RecursionError:
            run, reasons = None, [message("not the results of a run of this project (nested too deeply)")]
        runs += [run] if run else []
        name = path.relative_to(folder).as_posix()
        skipped += [Skipped(path=name, reason=in_one_line(reason)) for reason in reasons]
    failures, odd = _failures_below(folder)
    comparisons, odd_comparisons = comparisons_below(folder)
    skipped += [*odd, *odd_comparisons]
    return Collection(runs=runs, skipped=skipped, failures=failures, comparisons=comparisons)


def _failures_below(folder: Path) -> tuple[list[Failure], list[Skipped]]:
    """Read each failure.json, which names a model that could not be scored; list the unreadable files."""
    found: list[Failure] = []
    skipped: list[Skipped] = []
    for path in files_below(folder, FAILURE):
        name = path.relative_to(folder).as_posix()
        try:
            values = sound_facts(read_json(path))
        except (OSError, ValueError) as error:
            skipped.append(Skipped(path=name, reason=_not_a_failure(error)))
            continue
        model, reason = values.get("model"), values.get("reason")
        if not isinstance(model, dict) or not isinstance(reason, str):
            skipped.append(Skipped(path=name, reason=_not_a_failure("no model and reason")))
            continue
        label = label_of(path.parent, folder)
        found.append(Failure(label=label, name=str(values.get("name") or label), facts=model, reason=reason))
    return found, skipped


def _not_a_failure(reason: object) -> str:
    return message("not the record of a failure ({reason})", reason=reason)


def _results_below(folder: Path) -> Iterator[Path]:
    """Yield the path of each results.json, in path order."""
    return files_below(folder, RESULTS)


def _run(path: Path, label: str) -> tuple[Run | None, list[str]]:
    """Read the run of a results.json; return the run, and the reasons for scores that are left out.

    Raises:
        DataError: The file is not results.json of a run, is damaged, or was changed since it was written.
    """
    if not path.is_file():
        raise DataError(f"{path}: not the results of a run of this project (not a file)")
    facts, scores = read_results(path)
    for position, score in enumerate(scores, 1):
        check_score(score, f"{path}: score {position}")
    files = RunDir(path.parent)
    record, remarks = record_of(files)
    checked = check_results(path, record)
    models = facts.get("models")
    report, merge_problem = merge_report_of(files, record)
    contamination, found_remarks = contamination_of(files.contamination_json)
    remarks += found_remarks
    replaced = _replaced(models if isinstance(models, dict) else {}, record, report)
    valid = [
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
        scores=valid,
        measured=sound_facts(record),
        merge_report=report,
        trained=train_json_of(files.train_json),
        steps=record.get("steps", {}),
        merge_problem=merge_problem,
        config=config_of(files, record),
        contamination=contamination,
        remarks=[*remarks, *unverified(valid, checked), *([merge_problem] if merge_problem else [])],
    )
    of_earlier = replaced & {score.model for score in scores}
    reasons = _left_out(checked.changed, of_earlier, files.path)
    return (run if valid or not reasons else None), reasons


def _left_out(changed: Iterable[tuple[str, str]], of_earlier: Iterable[str], folder: Path) -> list[str]:
    """Return one message per score or model that is left out, with the command that scores it again.

    Args:
        changed: Model and benchmark of scores that were changed after the run wrote them.
        of_earlier: Models whose weights a later training or merge has replaced.
        folder: Folder of the run.
    """
    reasons = [
        message(
            "the scores of {model} on {benchmark} were changed since they were written, and are left out "
            "(recipe=evaluate run_dir={folder} scores them again)",
            model=model,
            benchmark=benchmark,
            folder=folder,
        )
        for model, benchmark in sorted(changed)
    ]
    return reasons + [
        message(
            "the scores of {model} are of an earlier training or merge, and are left out "
            "(recipe=evaluate run_dir={folder} scores the present model)",
            model=model,
            folder=folder,
        )
        for model in sorted(of_earlier)
    ]


def _replaced(models: dict[str, Any], record: dict[str, Any], report: dict[str, Any]) -> set[str]:
    """Return the models (adapter, merged, trained) that a training or merge has replaced since scoring."""
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
    """Return the value of `key` for a model in the `models` of results.json; None if it is missing."""
    facts = models.get(model)
    return facts.get(key) if isinstance(facts, dict) else None
