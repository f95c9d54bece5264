"""Writes right and wrong answers as files of lm-evaluation-harness, and as folders of runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.records import Prediction, Score, prompt_hash, write_predictions, write_results
from workbench.run_dir import RunDir
from workbench.statistics import intervals

DATE = "2026-01-02T03-04-05.678901"
PASSAGE = (
    "A long text about the river and the two towns on its banks, which several questions ask about. " * 2
)
BASE = "org/base"
RECIPE = {
    "model": {"path": BASE},
    "quantization": {"method": "none"},
    "adapter": {"method": "lora", "rank": 8},
    "data": {"path": "rows.jsonl"},
    "train": {"learning_rate": 2e-4},
}
"""Configuration of a training, without its seed."""

Answers = Mapping[str, NDArray[Any]]
"""Task -> whether each model answers each item right, (models, items)."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How answers are laid out in files of lm-evaluation-harness."""

    questions_per_text: int = 1
    group: str = ""
    """Benchmark of which the tasks are subjects; empty: each task is a benchmark."""
    has_base: bool = False
    """Whether all models but the first are adapters on the first."""
    totals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Task of labels -> each model's total; its answers are pairs of right and predicted label."""


def write_harness(folder: Path, answers: Answers, layout: Layout) -> None:
    """Write each model's results file and samples files; a model's folder is its number.

    Args:
        folder: Folder for all models.
        answers: The answers; of a task of labels (models, items, 2) labels.
        layout: How they are laid out.
    """
    for model in range(len(next(iter(answers.values())))):
        place = folder / str(model)
        place.mkdir(parents=True)
        results = {}
        for task, given in answers.items():
            metric, lines, total = _task(task, given[model], model, layout)
            (place / f"samples_{task}_{DATE}.jsonl").write_text("".join(lines), encoding="utf-8")
            results[task] = {f"{metric},none": total}
        values = {"results": results, "lm_eval_version": "0.4.13", **_model(model, layout.has_base)}
        if layout.group:
            total = float(np.mean([given[model].mean() for given in answers.values()]))
            values["groups"] = {layout.group: {"acc,none": total}}
            values["group_subtasks"] = {layout.group: list(answers)}
        (place / f"results_{DATE}.json").write_text(json.dumps(values), encoding="utf-8")


def _task(task: str, given: NDArray[Any], model: int, layout: Layout) -> tuple[str, list[str], float]:
    """Return the metric of a task, the lines of its samples, and its total."""
    if task in layout.totals:
        lines = [_labels_line(task, number, row.tolist()) for number, row in enumerate(given)]
        return task, lines, layout.totals[task][model]
    wrong_and_right = _lines(task, len(given), layout.questions_per_text)
    lines = [pair[answer] for pair, answer in zip(wrong_and_right, given.astype(int).tolist(), strict=True)]
    return "acc", lines, float(given.mean())


def _model(model: int, has_base: bool) -> dict[str, Any]:
    if not has_base:
        return {"model_name": f"org/model{model}"}
    arguments = {"pretrained": BASE} | ({"peft": f"adapters/{model}"} if model else {})
    return {
        "model_name": f"adapters/{model}" if model else BASE,
        "config": {"model": "hf", "model_args": arguments},
    }


@lru_cache(maxsize=64)
def _lines(task: str, count: int, questions_per_text: int) -> list[tuple[str, str]]:
    """Return the lines of a wrong and of a right answer to each item of a task."""
    return [
        (_line(task, number, False, questions_per_text), _line(task, number, True, questions_per_text))
        for number in range(count)
    ]


def _line(task: str, number: int, right: bool, questions_per_text: int) -> str:
    doc = {"question": _question(task, number)}
    if questions_per_text > 1:
        doc["passage"] = f"{PASSAGE} {number // questions_per_text}"
    values = ["-1.0", "-2.0"] if right else ["-2.0", "-1.0"]
    return _sample(task, number, doc, values, "acc", float(right))


def _labels_line(task: str, number: int, labels: list[int]) -> str:
    """Return the line of an item with its right and its predicted label."""
    values = ["-1.0", "-2.0"] if labels[1] == 0 else ["-2.0", "-1.0"]
    return _sample(task, number, {"question": _question(task, number)}, values, task, labels)


def _sample(
    task: str, number: int, doc: dict[str, str], loglikelihoods: list[str], metric: str, value: Any
) -> str:
    responses = [[value, "False"] for value in loglikelihoods]
    sample = {
        "doc_id": number,
        "doc": doc,
        "target": "0",
        "arguments": {
            f"gen_args_{index}": {"arg_0": _question(task, number), "arg_1": f" {letter}"}
            for index, letter in enumerate("AB")
        },
        "resps": [[response] for response in responses],
        "filtered_resps": responses,
        "filter": "none",
        "metrics": [metric],
        metric: value,
    }
    return json.dumps(sample) + "\n"


def _question(task: str, number: int) -> str:
    return f"{task}: question {number}?"


def write_seeds(folder: Path, answers: Answers) -> None:
    """Write a run for the base (model 0), and one for each adapter on it, whose number is its seed."""
    for seed in range(len(next(iter(answers.values())))):
        files = RunDir(folder / str(seed))
        name = "adapter" if seed else "base"
        scores = []
        for benchmark, right in answers.items():
            predictions = [_prediction(benchmark, n, bool(value)) for n, value in enumerate(right[seed])]
            write_predictions(files.predictions(name, benchmark), predictions)
            scores.append(_score(name, benchmark, right[seed].astype(float).tolist(), predictions))
        facts = {"quantization": "none", "dtype": "float32", "weights": "ef" * 32, "adapter": None}
        models = {"base": facts} | ({"adapter": {**facts, "adapter": f"{seed:064x}"}} if seed else {})
        about = {"run": str(seed), "recipe": "sft", "task": "causal_lm", "base_model": BASE, "models": models}
        write_results(files.results_json, about, scores)
        files.config_yaml.write_text(json.dumps(RECIPE | {"seed": seed}), encoding="utf-8")


def _prediction(benchmark: str, number: int, right: bool) -> Prediction:
    question = _question(benchmark, number)
    return Prediction(
        id=str(number),
        prompt_hash=prompt_hash([question, "A", "B"])[:16],
        context=question,
        choices=["A", "B"],
        loglikelihoods=[-1.0, -2.0] if right else [-2.0, -1.0],
        prediction=0 if right else 1,
        target=0,
        scores={"acc": float(right)},
    )


def _score(name: str, benchmark: str, values: list[float], predictions: list[Prediction]) -> Score:
    return Score(
        model=name,
        benchmark=benchmark,
        language="en",
        metric="acc",
        value=intervals.mean(values),
        stderr=intervals.stderr(values),
        interval=list(intervals.interval(values)),
        num_items=len(values),
        num_fewshot=0,
        protocol="default",
        prompts=prompt_hash([one.prompt_hash for one in predictions]),
        chance=0.5,
    )
