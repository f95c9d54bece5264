"""Adapters that peft alone has made, scored, merged or refused in one line."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from workbench import cli
from workbench.evaluation.records import read_predictions
from workbench.models import OpenLlamaForCausalLM

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


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
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
