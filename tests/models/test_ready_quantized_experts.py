"""Adapters are trained on, and merged into, the experts of mixtures that another tool quantized."""

import json

import pytest
import torch
from test_experts import MODELS, experts_of
from test_ready_quantized import is_linear, pack_layers
from tiny_checkpoints import PLAIN, at, logits, words_tokenizer
from transformers import AutoModelForCausalLM

from workbench.config.adapter import AdapterConfig
from workbench.config.merge import MergeConfig, MergeDtype
from workbench.config.model import Architecture
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import ConfigError
from workbench.models.adapters import attach, provenance
from workbench.models.loading import load_model
from workbench.models.merging.merge import merge

TEXTS = ["w3 w5 w8 w13", "w7 w11"]
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
ON_EXPERTS = AdapterConfig(rank=4, target_modules=["o_proj"], options={"target_parameters": EXPERTS})


def packed_mixture(folder, kind: str, name: str):
    """Write a tiny mixture whose layers and experts are in a format; the result is its section."""
    # With seed 0 of qwen3_moe in fp8, rounding to bfloat16 sends one of 8 tokens to another expert; the proof
    # then takes the difference for a fault.
    torch.manual_seed(1)
    MODELS[kind]().bfloat16().save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    exact = pack_layers(folder, name, lambda layer: is_linear(layer) or ".experts." in layer)
    assert sum(".experts." in layer for layer in exact) == 2 * 4 * 3
    return at(folder, architecture=Architecture.native)


def trained_on_experts(section, folder):
    """An adapter on the experts after one step of AdamW from matrices B of small random numbers."""
    model = attach.attach(load_model(section, PLAIN), ON_EXPERTS, seed=0).train()
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert sum(".experts." in name for name in weights) == 2 * 2 * 2  # A and B of two tensors in two layers
    generator = torch.Generator().manual_seed(2)
    for name, weight in weights.items():
        if "lora_B" in name:
            weight.data.normal_(0, 0.1, generator=generator)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    ids = torch.randint(3, 90, (2, 12), generator=generator)
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    assert all(not torch.equal(before[name], weight) for name, weight in weights.items())
    attach.save(model, folder, trained_on=provenance.trained_on(section, PLAIN, "bfloat16"))
    return folder


@pytest.mark.parametrize("name", ["gptq", "fp8"])
@pytest.mark.parametrize("kind", ["qwen3_moe", "mixtral"])
def test_an_adapter_on_unpacked_experts_is_trained_merged_and_proven(tmp_path, kind, name):
    section = packed_mixture(tmp_path / "base", kind, name)
    base = load_model(section, PLAIN)
    unmerged = {layer: weight.clone() for layer, weight in base.state_dict().items()}
    before = {layer: unmerged[layer] for layer in experts_of(base)}
    adapter = trained_on_experts(section, tmp_path / "adapter")
    merge_config = MergeConfig(dtype=MergeDtype.float32)
    report = merge(section, adapter, merge_config, PLAIN, tmp_path / "merged", TEXTS)
    assert report.merged is not None and report.merged.largest <= report.merged.bound
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config
    expected = attach.load(load_model(section, PLAIN).float(), adapter)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").eval()
    assert plain.dtype == torch.float32
    assert torch.allclose(logits(plain), logits(expected), atol=1e-4)
    sums = expected.merge_and_unload().state_dict()
    after = experts_of(plain)
    assert after.keys() == before.keys() and len(after) == 4
    for layer, weight in after.items():
        assert torch.allclose(weight, sums[layer], atol=1e-6), layer
        assert (weight - before[layer].float()).abs().max() > 1e-3, layer
    merged_weights = plain.state_dict()
    changed = {
        layer for layer, weight in unmerged.items() if not torch.equal(weight.float(), merged_weights[layer])
    }
    assert changed == {*after, *(layer for layer in unmerged if layer.endswith("o_proj.weight"))}


@pytest.mark.parametrize("kind", ["qwen3_moe", "mixtral"])
def test_an_adapter_on_experts_unpacked_and_quantized_anew_is_refused_by_name(tmp_path, kind):
    section = packed_mixture(tmp_path / "base", kind, "gptq")
    nf4 = QuantizationConfig(method=QuantizationMethod.nf4)
    with pytest.raises(ConfigError, match="are experts in nf4, on which an adapter can't be trained"):
        attach.attach(load_model(section, nf4), ON_EXPERTS, seed=0)
