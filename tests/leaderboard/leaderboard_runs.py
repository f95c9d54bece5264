"""Run folders as evaluation leaves them, with answers drawn from a seed."""

import json
import random
from dataclasses import dataclass, field

from workbench.evaluation.records import Prediction, Score, prompt_hash, write_predictions, write_results
from workbench.run_dir import RunDir, write_json
from workbench.statistics import intervals

QUESTIONS = {
    "zh": (
        "阅读短文，回答问题：小明把{}本书放进了书包。小明的书包里有几本书？",
        ["一本", "两本", "三本", "四本"],
    ),
    "en": (
        "Read the story and answer: Tom put {} books into his bag. How many are there?",
        ["1", "2", "3", "4"],
    ),
}


@dataclass
class Spec:
    """One benchmark: how many items, and how likely each model is right."""

    name: str = "toy-reading-zh"
    language: str = "zh"
    num_items: int = 120
    right: dict = field(default_factory=lambda: {"base": 0.3, "adapter": 0.8, "merged": 0.8})
    subsets: tuple = ("",)
    average: str = "micro"
    metric: str = "acc"
    note: dict = field(default_factory=dict)
    num_total: int | None = None
    per_cluster: int = 1


def answers(spec, model, seed=0):
    """Predictions of a model; adapter and merged share their dice, so they agree where both are as good."""
    dice = random.Random(f"{spec.name}-{'base' if model == 'base' else 'trained'}-{seed}")
    question, choices = QUESTIONS[spec.language]
    found = []
    for number in range(spec.num_items):
        subset, target = spec.subsets[number % len(spec.subsets)], dice.randrange(4)
        target = random.Random(f"{spec.name}-{number}").randrange(4)
        right = dice.random() < spec.right[model]
        prediction = target if right else (target + dice.randrange(1, 4)) % 4
        loglikelihoods = [-9.0 + (2.5 if choice == prediction else dice.random()) for choice in range(4)]
        found.append(
            Prediction(
                id=f"{subset}/{number}" if subset else str(number),
                subset=subset,
                prompt_hash=f"{number:016x}",
                context=question.format(target + 1),
                choices=choices,
                loglikelihoods=loglikelihoods,
                prediction=prediction,
                target=target,
                scores={spec.metric: float(right)},
                cluster=f"text {number // spec.per_cluster}" if spec.per_cluster > 1 else "",
            )
        )
    return found


def score(spec, model, predictions):
    """The score that belongs to the predictions."""
    by_subset = {}
    for one in predictions:
        by_subset.setdefault(one.subset, []).append(one.scores[spec.metric])
    if spec.average == "macro":
        value = intervals.mean([intervals.mean(some) for some in by_subset.values()])
        stderr, interval = intervals.macro_stderr(by_subset), intervals.macro_interval(by_subset)
    else:
        every = [one.scores[spec.metric] for one in predictions]
        value, stderr = intervals.mean(every), intervals.stderr(every)
        interval = intervals.interval(every)
    return Score(
        model=model,
        benchmark=spec.name,
        language=spec.language,
        metric=spec.metric,
        value=value,
        stderr=stderr,
        interval=list(interval),
        num_items=len(predictions),
        num_fewshot=0,
        protocol="default",
        prompts=prompt_hash([one.prompt_hash for one in predictions]),
        chance=0.25,
        majority=0.3,
        average=spec.average,
        subsets={k: {"value": intervals.mean(v), "num_items": len(v)} for k, v in by_subset.items() if k},
        note=spec.note.get(model, ""),
        num_total=spec.num_total,
    )


def write_run(
    path,
    specs,
    seed=0,
    task="causal_lm",
    base_model="workbench/toy",
    measured=None,
    weights="ef" * 32,
    adapter="cd" * 32,
    config=None,
):
    """A run folder with results.json, predictions, run.json, and config.yaml if there is a configuration."""
    files, scores = RunDir(path), []
    for spec in specs:
        for model in spec.right:
            predictions = answers(spec, model, seed)
            write_predictions(files.predictions(model, spec.name), predictions)
            scores.append(score(spec, model, predictions))
    models = {
        model: {
            "quantization": "none" if model == "merged" else "nf4",
            "dtype": "float32",
            "adapter": adapter if model == "adapter" else None,
            "weights": f"{weights[:32]}{adapter[:32]}" if model == "merged" else weights,
        }
        for model in dict.fromkeys(model for spec in specs for model in spec.right)
    }
    about = {
        "run": path.name,
        "recipe": "quickstart",
        "task": task,
        "base_model": base_model,
        "models": models,
    }
    write_results(files.results_json, about, scores)
    default = {
        "schema_version": 1,
        "steps": {},
        "train": {"seconds": 31.4, "tokens_per_second": 5321.7, "peak_bytes": 1_234_567_890},
        "evaluate": {"adapter": {specs[0].name: {"seconds": 4.2, "items_per_second": 71.4}}},
        "versions": {"torch": "2.13.0", "peft": "0.21.2"},
        "machine": {"system": "Linux", "processors": 2},
    }
    write_json(files.run_json, default if measured is None else measured)
    if config is not None:
        files.config_yaml.write_text(json.dumps(config))
    return files
