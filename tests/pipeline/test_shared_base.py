"""Runs that share the load of a base give what runs of their own give."""

from pathlib import Path

import pytest
from peft import LoraConfig

from workbench.pipeline import shared_base
from workbench.pipeline.run_results import training_of
from workbench.pipeline.shared_base import sharing_base
from workbench.run_dir import read_json

ITEMS = (
    "benchmark=[toy_choice_en,toy_exact_zh]",
    "benchmarks.toy_choice_en.limit=12",
    "benchmarks.toy_exact_zh.limit=6",
)
BASE = ("evaluate", "model.path=${toy:base}", "steps=[evaluate]", *ITEMS)


@pytest.fixture(scope="module")
def adapters(run_once):
    """Two adapters of a few steps."""
    short = ("train.max_steps=3", "train.save_steps=3", "data.limit=200", "steps=[train]")
    made = [run_once(lambda folder: None, "quickstart", *short, f"seed={seed}") for seed in (1, 2)]
    return [folder / "runs/quickstart/adapter" for folder in made]


def answers(run_dir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run_dir.all_predictions.glob("*/*.jsonl")}


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_adapters_in_turn_on_one_base_answer_as_on_a_base_of_their_own(
    run, adapters, tmp_path, monkeypatch, quantization
):
    first, second = (f"adapter.path={path}" for path in adapters)
    jobs = {
        "base": ("evaluate.models=[base]",),
        "first": (first, "evaluate.models=[adapter]"),
        "second": (second, "evaluate.models=[adapter]"),
        "base-again": ("evaluate.models=[base]",),
    }
    common = (*BASE, f"quantization={quantization}")
    alone = {name: answers(run(*common, *keys, f"run_dir=alone/{name}")) for name, keys in jobs.items()}
    loads = []
    load = shared_base.load_model
    monkeypatch.setattr(shared_base, "load_model", lambda *args: loads.append(args) or load(*args))
    with sharing_base():
        shared = {name: answers(run(*common, *keys, f"run_dir=shared/{name}")) for name, keys in jobs.items()}
    assert len(loads) == 1
    assert shared == alone
    assert alone["first"] != alone["base"] != alone["second"] != alone["first"]


def test_scores_of_an_adapter_say_what_its_own_run_trained_it_with(run, adapters):
    run_dir = run(*BASE, f"adapter.path={adapters[1]}", "evaluate.models=[adapter]", "run_dir=scored")
    training = read_json(run_dir.results_json)["models"]["adapter"]["training"]
    stored = {key: training[key] for key in ("method", "rank", "learning_rate", "seed")}
    assert stored == {"method": "lora", "rank": 16, "learning_rate": 0.003, "seed": 2}


def test_a_dora_adapter_without_its_run_is_told_from_lora(tmp_path):
    LoraConfig(r=4, use_dora=True, target_modules=["q_proj"]).save_pretrained(tmp_path)
    assert training_of(tmp_path) == {"method": "dora", "rank": 4}


def test_another_quantization_is_another_load(run, tmp_path, monkeypatch):
    loads = []
    load = shared_base.load_model
    monkeypatch.setattr(shared_base, "load_model", lambda *args: loads.append(args) or load(*args))
    with sharing_base():
        for number, quantization in enumerate(("none", "nf4", "nf4")):
            run(
                *BASE,
                f"quantization={quantization}",
                f"run_dir={Path(str(number))}",
                "evaluate.models=[base]",
            )
    assert len(loads) == 2
