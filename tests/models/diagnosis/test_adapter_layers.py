"""Merges of single weights by peft's layers, as the diagnosis makes them to compare a folder with."""

import copy
import re

import pytest
import torch
from merged_folders import LINEAR, load, write_adapter, write_base
from peft import (
    AdaLoraConfig,
    AdamssConfig,
    FrodConfig,
    HiraConfig,
    KasaConfig,
    LoraConfig,
    OFTConfig,
    PeanutConfig,
    PeftModel,
    ShiraConfig,
    SupertuningConfig,
)

from workbench.errors import CheckpointError
from workbench.models.checkpoints.model_folder import canonical, open_base
from workbench.models.diagnosis.adapter_layers import adapter_layers
from workbench.models.diagnosis.adapter_tensors import check_determined

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that is done on purpose here
NAME = "model.layers.1.mlp.up_proj"
KINDS = {
    "lora": LoraConfig(r=4, target_modules=LINEAR),
    "dora": LoraConfig(r=4, target_modules=LINEAR, use_dora=True),
    "oft": OFTConfig(oft_block_size=8, target_modules=LINEAR),
    "hira": HiraConfig(r=4, target_modules=LINEAR),
    "peanut": PeanutConfig(r=4, target_modules=LINEAR),
    "shira": ShiraConfig(r=4, target_modules=LINEAR),
    "adalora": AdaLoraConfig(total_step=10, target_modules=LINEAR),
    "supertuning": SupertuningConfig(target_modules=LINEAR, sparsity=0.9),
}
"""Methods of which some compute the update from the weight, and keep a copy of that weight."""


def peft_sum(base, adapter, weight):
    """The weight that peft's own merge leaves in a fresh model."""
    model = load(base, dtype="float32")
    model.get_submodule(NAME).weight.data = weight.clone()
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return merged.get_submodule(NAME).weight.data


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_merges_one_weight_after_another_as_a_fresh_model_does(kind, tmp_path):
    base = write_base(tmp_path / "base", "float32")
    adapter = write_adapter(tmp_path / "adapter", base, copy.deepcopy(KINDS[kind]), size=0.3)
    layers = adapter_layers(adapter, open_base(str(base)))
    first = load(base, dtype="float32").get_submodule(NAME).weight.data
    others = [0.5 * first.flip(0), first.roll(7, 1)]
    for weight in (first, *others, first):
        merged = layers.merged(canonical(f"{NAME}.weight"), weight)
        assert torch.equal(merged, peft_sum(base, adapter, weight))
        assert not torch.equal(merged, weight)


@pytest.mark.parametrize(
    ("config_class", "name", "value", "shown"),
    [
        (SupertuningConfig, "save_precomputed_indices", False, "'false'"),
        (LoraConfig, "init_lora_weights", "pissa", "'pissa'"),
        (LoraConfig, "layer_replication", [[0, 2]], "[[0, 2]]"),
        (LoraConfig, "kasa_config", KasaConfig(), "KasaConfig(beta=0.0001, gamma=0.001)"),
        (LoraConfig, "target_parameters", ["experts.gate"], "['experts.gate']"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_adapter_whose_file_does_not_determine_its_update_is_refused(config_class, name, value, shown):
    said = re.escape(f"ADAPTER: {name}={shown} changes the base in ways")
    with pytest.raises(CheckpointError, match=said):
        check_determined("ADAPTER", config_class(**{name: value}))
    check_determined("ADAPTER", config_class())


@pytest.mark.parametrize("config", [AdamssConfig(), FrodConfig()], ids=["adamss", "frod"])
def test_an_adapter_with_matrices_out_of_the_bases_weights_is_refused(config):
    """A diagnosis has no base model but its files, and took a sound merge for one into another base."""
    with pytest.raises(CheckpointError, match="^ADAPTER: [A-Z]+ computes matrices from the base's weights"):
        check_determined("ADAPTER", config)


def test_chosen_places_that_are_not_in_the_file_are_refused_by_the_diagnosis(tmp_path):
    base = write_base(tmp_path / "base", "float32")
    config = SupertuningConfig(target_modules=LINEAR, sparsity=0.9, save_precomputed_indices=False)
    adapter = write_adapter(tmp_path / "adapter", base, config)
    with pytest.raises(CheckpointError, match="save_precomputed_indices='false'"):
        adapter_layers(adapter, open_base(str(base)))
