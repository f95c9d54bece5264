"""Adapters that peft alone has made, scored, merged or refused in one line."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from workbench import cli
from workbench.errors import CheckpointError
from workbench.evaluation.records import read_predictions
from workbench.models import OpenLlamaForCausalLM

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TOY = Path(cli.PACKAGE) / "toy" / "base"
ASKED = ("model.path=${toy:base}", "benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=6")


def made(folder, **fields):
    """An adapter of peft's own, moved as training would."""
    base = OpenLlamaForCausalLM.from_pretrained(TOY)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, **fields))
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.add_(torch.randn_like(weight), alpha=0.1)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": ["q_proj"], "init_lora_weights": "pissa"},
        {"target_modules": ["q_proj"], "bias": "all"},
        {"target_modules": ["q_proj"], "layer_replication": [(0, 2), (0, 2)]},
    ],
    ids=lambda fields: list(fields)[1],
)
def test_an_adapter_that_changes_the_base_leaves_its_scores_alone(run, tmp_path, fields):
    adapter = made(tmp_path / "adapter", **fields)
    alone = run("evaluate", *ASKED, "run_dir=alone")
    both = run("evaluate", *ASKED, "run_dir=both", f"adapter.path={adapter}")
    said = [
        [one.loglikelihoods for one in read_predictions(folder.predictions(name, "toy_choice_en"))]
        for folder, name in ((alone, "base"), (both, "base"), (both, "adapter"))
    ]
    assert said[0] == said[1] != said[2]


def test_an_adapter_of_the_hub_is_told_with_its_method_and_rank(run, tmp_path, monkeypatch):
    commit, cache = "0" * 40, tmp_path / "cache" / "models--us--lora"
    made(cache / "snapshots" / commit, target_modules=["q_proj"])
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache.parent))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = run("evaluate", *ASKED, "adapter.path=us/lora", "evaluate.models=[adapter]")
    [model] = json.loads(folder.results_json.read_text())["models"].values()
    assert model["training"] == {"method": "lora", "rank": 4}


def prompt(folder, config):
    get_peft_model(OpenLlamaForCausalLM.from_pretrained(TOY), config).save_pretrained(folder)


def pickled(folder):
    made(folder, target_modules=["q_proj"])
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()


BAD = {
    "no folder": (lambda folder: None, "adapter.path: there is no file or folder '.*bad'"),
    "empty": (lambda folder: folder.mkdir(), "bad: not an adapter, adapter_config.json is missing"),
    "a file": (lambda folder: folder.write_text("{}"), "bad: not an adapter, adapter_config.json is missing"),
    "pickled": (pickled, r"bad: not an adapter, adapter_model.safetensors is missing \(pickles are not read"),
    "prompt": (
        lambda folder: prompt(folder, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)),
        "bad: PROMPT_TUNING trains a prompt and adapts no layers",
    ),
    "prefix": (
        lambda folder: prompt(folder, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)),
        "bad: PREFIX_TUNING trains a prompt",
    ),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("recipe", ["evaluate", "merge", "sft"])
def test_a_folder_that_is_no_adapter_is_one_line_and_nothing_is_written(run, tmp_path, recipe, fault):
    make, said = BAD[fault]
    make(tmp_path / "bad")
    data = ("data.path=${toy:data/instruct.jsonl}", "train.max_steps=1") if recipe == "sft" else ()
    with pytest.raises(CheckpointError, match=said) as caught:
        run(recipe, *ASKED, *data, "adapter.path=bad", "run_dir=run", "quantization=none")
    assert "\n" not in str(caught.value)
    assert not {"adapter", "merged", "results.json"} & {path.name for path in tmp_path.rglob("*")}


def test_a_start_that_quantized_weights_do_not_allow_is_one_line(run, tmp_path):
    made(tmp_path / "adapter", target_modules=["q_proj"], init_lora_weights="pissa")
    with pytest.raises(CheckpointError, match="adapter: does not fit this model: .*PiSSA") as caught:
        run("evaluate", *ASKED, "adapter.path=adapter", "quantization=nf4")
    assert "\n" not in str(caught.value)


def with_alpha(folder, alpha):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": alpha}))


def with_number(folder, number):
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[5] = number
    save_file(tensors, file)


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda folder: with_alpha(folder, 1e300), "adapter: can't be merged, NaN"),
        (
            lambda folder: with_number(folder, float("nan")),
            "adapter: .*lora_A.weight has NaN or infinite values",
        ),
        (
            lambda folder: with_number(folder, float("inf")),
            "adapter: .*lora_A.weight has NaN or infinite values",
        ),
    ],
    ids=["an alpha too large", "nan", "infinite"],
)
def test_a_merge_that_would_not_be_numbers_is_one_line(run, tmp_path, damage, said):
    damage(made(tmp_path / "adapter", target_modules=["q_proj"]))
    with pytest.raises(CheckpointError, match=said) as caught:
        run("merge", "model.path=${toy:base}", "adapter.path=adapter", "run_dir=run", "quantization=none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "merged").exists()
