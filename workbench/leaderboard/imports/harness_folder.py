"""Reads a results file of lm-evaluation-harness, with the samples files of the same date beside it.

Source: lm_eval 0.4.13, `loggers/evaluation_tracker.EvaluationTracker` (names and fields of the files).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.benchmarks.language import MOST_LETTERS, language
from workbench.evaluation.harness.item_scores import item_id, with_filter
from workbench.evaluation.records import Score
from workbench.files import read_json
from workbench.leaderboard.checks import sound_facts
from workbench.leaderboard.imported_items import ImportedItems, ImportedResults, LeftOut, joined
from workbench.leaderboard.imports import harness_samples
from workbench.leaderboard.imports.harness_model import model_facts
from workbench.leaderboard.imports.harness_predictions import read_predictions
from workbench.leaderboard.imports.harness_samples import Sample, are_labels, item_score
from workbench.leaderboard.imports.harness_scores import LABEL, LOGLIKELIHOOD, TaskItems, scores_of

TOOL = "lm-evaluation-harness"
RESULTS_NAME = re.compile(r"results_(?P<date>[^_/]+)\.json")
WITH_ITEMS = ("config", "versions", "n-shot", "git_hash", "date", "transformers_version", "chat_template_sha")
"""Keys of a results file that go into the provenance of its numbers."""
DEEPEST_GROUP = 10
SHOWN_FOR_LANGUAGE = 200
"""Number of samples whose prompts are used to detect the language."""


@dataclass(frozen=True)
class Task:
    """One task of lm-evaluation-harness with its samples file."""

    name: str
    path: Path
    """Path of the samples file."""
    samples: list[Sample]


def read_folder(path: Path) -> tuple[ImportedResults | None, list[LeftOut]]:
    """Return one model's results from a results file and its samples files, and the files left out.

    A samples file is left out, with the reason, if it is damaged or its items contradict the reported scores.
    The results are None if no samples can be read, as without --log_samples.

    Args:
        path: Path of the results file.

    Raises:
        DataError: The file is not a results file of lm-evaluation-harness.
    """
    values = _results(path)
    tasks, left_out = _tasks(path, values)
    model = str(values.get("model_name") or _section(values, "config").get("model") or path.parent.name)
    scores: list[Score] = []
    items: dict[str, ImportedItems] = {}
    for benchmark, members in _benchmarks(values, tasks).items():
        is_group = benchmark not in tasks
        parts = [
            TaskItems(
                _task_items(task, task.name if is_group else ""),
                _section(_section(values, "results"), task.name),
                list(task.samples[0].metrics),
            )
            for task in members
        ]
        found = joined([part.items for part in parts])
        totals = _section(_section(values, "groups"), benchmark) if is_group else parts[0].totals
        try:
            facts = _facts(benchmark, members, values, model)
            sound, problems = scores_of(found, parts, totals, facts, _directions(benchmark, members, values))
            scores += sound
            items[benchmark] = found
            left_out += [LeftOut(task.path, problem) for task in members for problem in problems]
        except DataError as error:
            left_out += [LeftOut(task.path, str(error)) for task in members]
    if not items and not left_out:
        left_out = [LeftOut(path, "has no samples files beside it (lm_eval run --log_samples writes them)")]
    if not items:
        return None, left_out
    version = values.get("lm_eval_version")
    results = ImportedResults(
        path=path.parent,
        tool=f"{TOOL} {version}" if isinstance(version, str) else TOOL,
        model=model,
        facts=model_facts(_section(values, "config")),
        measured={TOOL: sound_facts({key: values[key] for key in WITH_ITEMS if key in values})},
        scores=scores,
        items=items,
    )
    return results, left_out


def _results(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"not JSON ({error})") from error
    if not isinstance(values, dict) or not isinstance(values.get("results"), dict):
        raise DataError("not a results file of lm-evaluation-harness (no object with results)")
    return values


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _tasks(path: Path, values: Mapping[str, Any]) -> tuple[dict[str, Task], list[LeftOut]]:
    """Read the samples files of a results file; return the tasks, and the files that are left out."""
    tasks: dict[str, Task] = {}
    left_out = []
    suffix = f"_{path.stem.removeprefix('results_')}.jsonl"
    for file in sorted(path.parent.glob(f"samples_*{_escaped(suffix)}")):
        name = file.name.removeprefix("samples_").removesuffix(suffix)
        try:
            if name not in _section(values, "results"):
                raise DataError(f"{path.name} has no results of this task")
            samples = harness_samples.read_samples(file)
            _check_count(samples, _section(values, "n-samples").get(name))
            tasks[name] = Task(name, file, samples)
        except DataError as error:
            left_out.append(LeftOut(file, str(error).removeprefix(f"{file}: ").replace(f"{file}:", "line ")))
    return tasks, left_out


def _escaped(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _check_count(samples: Sequence[Sample], counts: Any) -> None:
    """Raise an error if a samples file has another number of documents than the results file counted.

    Raises:
        DataError: The numbers differ.
    """
    expected = counts.get("effective") if isinstance(counts, dict) else None
    count = len({sample.number for sample in samples})
    if isinstance(expected, int) and expected != count:
        raise DataError(f"has {count:,} of the {expected:,} documents that were scored")


def _benchmarks(values: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, list[Task]]:
    """Return benchmark -> its tasks: each outermost group that the harness averages, and each other task.

    A group is a benchmark only if all of its tasks have samples.
    """
    groups = {}
    for name in _section(values, "groups"):
        members = _leaves(name, _section(values, "group_subtasks"), DEEPEST_GROUP)
        if members and all(member in tasks for member in members) and name not in tasks:
            groups[name] = members
    of_members = {frozenset(members): name for name, members in reversed(groups.items())}
    outer = {
        name: members
        for name, members in groups.items()
        if of_members[frozenset(members)] == name
        and not any(set(members) < set(other) for other in groups.values())
    }
    grouped = {member for members in outer.values() for member in members}
    found = {name: [tasks[member] for member in members] for name, members in outer.items()}
    return found | {name: [task] for name, task in tasks.items() if name not in grouped}


def _leaves(name: str, subtasks: Mapping[str, Any], depth: int) -> list[str]:
    """Return the names of the tasks in a group and its subgroups, each once; of a task, its own name."""
    below = subtasks.get(name)
    if not isinstance(below, list) or not below:
        return [name]
    if depth == 0:
        return []
    leaves = [leaf for member in below for leaf in _leaves(str(member), subtasks, depth - 1)]
    return list(dict.fromkeys(leaves))


def _task_items(task: Task, subset: str) -> ImportedItems:
    """Return the items of one task: scores after each filter, and answers after the first filter.

    A filter that lacks a document is left out, and so is a metric without a score for each document.
    """
    by_filter: dict[str, list[Sample]] = {}
    for sample in task.samples:
        by_filter.setdefault(sample.filter, []).append(sample)
    first = next(iter(by_filter.values()))
    order = [sample.number for sample in first]
    values: dict[str, list[float]] = {}
    meanings: dict[str, str] = {}
    weights: dict[str, list[float]] = {}
    for filter_name, samples in by_filter.items():
        by_number = {sample.number: sample for sample in samples}
        if by_number.keys() != set(order):
            continue
        for name in samples[0].metrics:
            raw = [by_number[number].metrics.get(name) for number in order]
            scores = [item_score(value) for value in raw]
            if None not in scores:
                metric = with_filter(name, filter_name)
                values[metric] = [score for score in scores if score is not None]
                if isinstance(raw[0], list):
                    meanings[metric] = LABEL if are_labels(raw[0]) else LOGLIKELIHOOD
                if (sizes := _weights(raw)) is not None:
                    weights[metric] = sizes
    return ImportedItems(
        ids=[item_id(subset, number) for number in order],
        subsets=[subset] * len(order),
        prompts=[sample.prompt for sample in first],
        plain_prompts=[sample.plain_prompt for sample in first],
        clusters=harness_samples.clusters(first),
        num_choices=[sample.num_choices for sample in first],
        values=values,
        meanings=meanings,
        weights=weights,
        targets=[_label(sample, 0, sample.target) for sample in first],
        predictions=[_label(sample, 1, sample.prediction) for sample in first],
        texts=[sample.text for sample in first],
        read=lambda: read_predictions(task.path, subset),
    )


def _weights(values: Sequence[Any]) -> list[float] | None:
    """Return the bytes or words of each document, from a metric's values [log-likelihood, weight].

    None if the values have another form, or a weight isn't positive.
    """
    if any(not isinstance(value, list) or are_labels(value) or value[1] <= 0 for value in values):
        return None
    return [float(weight) for _, weight in values]


def _label(sample: Sample, index: int, usual: Any) -> Any:
    """Return the right (index 0) or predicted (1) label of a sample; `usual` without a metric of labels."""
    pairs = [value for value in sample.metrics.values() if are_labels(value)]
    return pairs[0][index] if pairs else usual


def _facts(
    benchmark: str, tasks: Sequence[Task], values: Mapping[str, Any], model: str
) -> dict[str, str | int | None]:
    """Return the fields of `Score` that are equal for all metrics of a benchmark: model, language, ..."""
    texts = [sample.ending for sample in tasks[0].samples[:SHOWN_FOR_LANGUAGE]]
    shots = _section(values, "n-shot").get(benchmark, _section(values, "n-shot").get(tasks[0].name))
    version = values.get("lm_eval_version")
    return {
        "model": model,
        "benchmark": benchmark,
        "language": language(text[-MOST_LETTERS:] for text in texts),
        "num_fewshot": shots if isinstance(shots, int) and shots >= 0 else 0,
        "protocol": f"lm-eval {version}" if isinstance(version, str) else "lm-eval",
        "num_total": _num_total(tasks, _section(values, "n-samples")),
    }


def _directions(benchmark: str, tasks: Sequence[Task], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return metric -> whether higher is better, by the benchmark's entry, else by its first task's."""
    told = _section(values, "higher_is_better")
    return _section(told, tasks[0].name) | {
        name: value for name, value in _section(told, benchmark).items() if value is not None
    }


def _num_total(tasks: Sequence[Task], counts: Mapping[str, Any]) -> int | None:
    """Return the number of documents that all tasks have without --limit; None if a task's is unknown."""
    totals = [_section(counts, task.name).get("original") for task in tasks]
    known = [total for total in totals if isinstance(total, int) and total > 0]
    return sum(known) if len(known) == len(totals) else None
