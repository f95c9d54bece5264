"""Reads a results file of lm-evaluation-harness, with the samples files of the same date beside it.

Source: lm_eval 0.4.13, `loggers/evaluation_tracker.EvaluationTracker` (names and fields of the files).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.benchmarks.language import MOST_LETTERS, language
from workbench.evaluation.field_checks import LARGEST
from workbench.evaluation.records import Score
from workbench.files import read_json
from workbench.leaderboard.checks import sound_facts
from workbench.leaderboard.imported_items import ImportedItems, ImportedResults, LeftOut, joined
from workbench.leaderboard.imports import harness_samples
from workbench.leaderboard.imports.harness_predictions import read_predictions
from workbench.leaderboard.imports.harness_samples import Sample, are_labels, item_id, item_score, metric_name
from workbench.leaderboard.imports.scores import by_subset, contradiction, contradiction_jointly, score_of

TOOL = "lm-evaluation-harness"
RESULTS_NAME = re.compile(r"results_(?P<date>[^_/]+)\.json")
WITH_ITEMS = ("config", "versions", "n-shot", "git_hash", "date", "transformers_version", "chat_template_sha")
"""Keys of a results file that tell where its numbers come from."""
DEEPEST_GROUP = 10
MOST_NATS = 700
"""Of a mean log-likelihood; e to a higher power is no number any more."""
SHOWN_FOR_LANGUAGE = 200
"""Samples whose prompts tell the language."""
LOGLIKELIHOOD = "log-likelihood of the text, in nats"
LABEL = "1 where the label is right, else 0"


@dataclass(frozen=True)
class Task:
    """A task of the harness with its samples."""

    name: str
    path: Path
    samples: list[Sample]


def read_folder(path: Path) -> tuple[ImportedResults | None, list[LeftOut]]:
    """Return what a results file and its samples hold, and which of them are left out.

    Raises:
        DataError: It is not a results file of the harness.
    """
    values = _results(path)
    tasks, left_out = _tasks(path, values)
    model = str(values.get("model_name") or _section(values, "config").get("model") or path.parent.name)
    scores: list[Score] = []
    items: dict[str, ImportedItems] = {}
    for benchmark, members in _benchmarks(values, tasks).items():
        found = joined([_task_items(task, task.name if benchmark not in tasks else "") for task in members])
        reported = _section(values, "results" if benchmark in tasks else "groups").get(benchmark)
        try:
            sound, problems = _scores(benchmark, found, members, reported, values, model)
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
        facts=_facts(values),
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
    """Return the tasks with sound samples, and the files of the others."""
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
    """Check that a file has as many documents as were scored.

    Raises:
        DataError: It has others.
    """
    expected = counts.get("effective") if isinstance(counts, dict) else None
    count = len({sample.number for sample in samples})
    if isinstance(expected, int) and expected != count:
        raise DataError(f"has {count:,} of the {expected:,} documents that were scored")


def _benchmarks(values: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, list[Task]]:
    """Return the tasks of each benchmark: groups that the harness averages, and tasks outside of these."""
    groups = {}
    for name in _section(values, "groups"):
        members = _leaves(name, _section(values, "group_subtasks"), DEEPEST_GROUP)
        if members and all(member in tasks for member in members) and name not in tasks:
            groups[name] = members
    outer = {
        name: members
        for name, members in groups.items()
        if not any(set(members) < set(other) for other in groups.values())
    }
    grouped = {member for members in outer.values() for member in members}
    found = {name: [tasks[member] for member in members] for name, members in outer.items()}
    return found | {name: [task] for name, task in tasks.items() if name not in grouped}


def _leaves(name: str, subtasks: Mapping[str, Any], depth: int) -> list[str]:
    """Return the tasks below a group, each once."""
    below = subtasks.get(name)
    if not isinstance(below, list) or not below:
        return [name]
    if depth == 0:
        return []
    leaves = [leaf for member in below for leaf in _leaves(str(member), subtasks, depth - 1)]
    return list(dict.fromkeys(leaves))


def _task_items(task: Task, subset: str) -> ImportedItems:
    """Return the items of one task; metrics come from all filters, the rest from the first."""
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
                metric = metric_name(name, filter_name)
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
    """Return what stands behind each log-likelihood: the bytes or words of the unprepared document."""
    if any(not isinstance(value, list) or are_labels(value) or value[1] <= 0 for value in values):
        return None
    return [float(weight) for _, weight in values]


def _label(sample: Sample, index: int, usual: Any) -> Any:
    """Return the right (0) or predicted (1) label that a metric of labels was given."""
    pairs = [value for value in sample.metrics.values() if are_labels(value)]
    return pairs[0][index] if pairs else usual


def _scores(
    benchmark: str,
    items: ImportedItems,
    tasks: Sequence[Task],
    reported: Any,
    values: Mapping[str, Any],
    model: str,
) -> tuple[list[Score], list[str]]:
    """Return a benchmark's scores, in the order of its metrics, and why further ones are left out.

    Raises:
        DataError: The results file reports another mean than that of the items, or no metric is left.
    """
    totals = reported if isinstance(reported, dict) else {}
    texts = [sample.ending for sample in tasks[0].samples[:SHOWN_FOR_LANGUAGE]]
    shots = _section(values, "n-shot").get(benchmark, _section(values, "n-shot").get(tasks[0].name))
    version = values.get("lm_eval_version")
    facts = {
        "model": model,
        "benchmark": benchmark,
        "language": language(text[-MOST_LETTERS:] for text in texts),
        "num_fewshot": shots if isinstance(shots, int) and shots >= 0 else 0,
        "protocol": f"lm-eval {version}" if isinstance(version, str) else "lm-eval",
        "num_total": _num_total(tasks, _section(values, "n-samples")),
    }
    scores, problems = [], []
    for metric in items.values:
        key = metric if "," in metric else f"{metric},{harness_samples.NO_FILTER}"
        total: Any = totals.get(key)
        is_known = isinstance(total, int | float) and abs(total) < LARGEST
        if (metric in items.meanings or len(tasks) > 1) and not is_known:
            continue
        if is_known and _is_perplexity(items, metric, float(total)):
            items.meanings[metric] = LOGLIKELIHOOD
        average = _average(items, metric, total)
        problem = contradiction(items, metric, total, average)
        if problem:
            raise DataError(problem)
        score = score_of(items, metric, float(total) if is_known else None, average, **facts)
        # The total of a group is a mean of its tasks' totals.
        problem = contradiction_jointly(items, score) if len(tasks) == 1 else ""
        if problem:
            problems.append(problem)
        else:
            scores.append(score)
    if not scores:
        raise DataError("; ".join(problems) or "no metric has a score for each document")
    return scores, problems


def _num_total(tasks: Sequence[Task], counts: Mapping[str, Any]) -> int | None:
    """Return the documents of all tasks without a limit; None where the file doesn't tell."""
    totals = [_section(counts, task.name).get("original") for task in tasks]
    known = [total for total in totals if isinstance(total, int) and total > 0]
    return sum(known) if len(known) == len(totals) else None


def _is_perplexity(items: ImportedItems, metric: str, total: float) -> bool:
    """Return whether a total is e to the power of minus the mean of log-likelihoods."""
    mean = sum(items.values[metric]) / len(items.ids)
    return -MOST_NATS < mean < 0 and math.isclose(math.exp(-mean), total, rel_tol=1e-6)


def _average(items: ImportedItems, metric: str, total: Any) -> str:
    """Return how a total is made of a group's tasks: the mean of all items, or of the tasks' totals."""
    if len(by_subset(items, metric)) < 2:
        return "micro"
    return "macro" if metric in items.meanings or contradiction(items, metric, total, "micro") else "micro"


def _facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the harness tells of the model."""
    config = _section(values, "config")
    arguments = _section(config, "model_args")
    facts: dict[str, Any] = {"num_parameters": config.get("model_num_parameters")}
    if isinstance(dtype := config.get("model_dtype"), str):
        facts["dtype"] = dtype.removeprefix("torch.")
    for key, quantization in (("load_in_8bit", "int8"), ("load_in_4bit", "4-bit")):
        if arguments.get(key) in (True, "True", "true"):
            facts["quantization"] = quantization
    facts |= {"revision": config.get("model_revision"), "adapter": arguments.get("peft")}
    return {key: value for key, value in facts.items() if value not in (None, "")}
