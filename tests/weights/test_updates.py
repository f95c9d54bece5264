"""Updates of weights and what rounding leaves of them, against peft and against numpy."""

import math

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from workbench.models.quantization import dequantize_state_dict
from workbench.weights.as_trained import Quantized, as_trained
from workbench.weights.lora_update import LoraUpdate, Replacement
from workbench.weights.signal import Signal, measured


class Layers(nn.Module):
    """A linear layer and an embedding."""

    def __init__(self):
        super().__init__()
        self.linear, self.table = nn.Linear(24, 16, bias=False), nn.Embedding(30, 12)

    def forward(self, ids, hidden):
        return self.table(ids), self.linear(hidden)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(("target", "rslora"), [("linear", False), ("linear", True), ("table", False)])
def test_an_update_is_pefts_merge(target, rslora, dora):
    if dora and target == "table":
        pytest.skip("DoRA of an embedding is merged by peft")
    torch.manual_seed(0)
    layers = Layers()
    weight = getattr(layers, target).weight.detach().clone()
    config = LoraConfig(target_modules=[target], r=4, lora_alpha=6, use_dora=dora, use_rslora=rslora)
    model = get_peft_model(layers, config)
    layer = getattr(model.base_model.model, target)
    prefix = "lora_embedding_" if target == "table" else "lora_"
    down, up = (getattr(layer, f"{prefix}{name}")["default"] for name in "AB")
    down, up = (part.weight if target == "linear" else part for part in (down, up))
    with torch.no_grad():
        up.normal_()
    magnitude = layer.lora_magnitude_vector["default"].weight.detach() * 1.1 if dora else None
    if dora:
        layer.lora_magnitude_vector["default"].weight.data = magnitude
    update = LoraUpdate(
        down=down.detach(), up=up.detach(), scale=6 / 4**0.5 if rslora else 6 / 4,
        magnitude=magnitude, is_transposed=target == "table",
    )  # fmt: skip
    changed = update.changed(weight)
    expected = getattr(model.merge_and_unload(), target).weight.detach()
    torch.testing.assert_close(changed.rows, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(changed.delta, expected - weight, rtol=0, atol=1e-6)
    parts = [update.changed(weight[first : first + 5], first).rows for first in range(0, len(weight), 5)]
    torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=1e-6)


def test_trained_rows_and_weights_replace_the_bases():
    weight, values = torch.zeros(6, 2), torch.arange(4.0).view(2, 2)
    rows = Replacement(values=values, numbers=(1, 4))
    assert rows.changed(weight).rows.tolist() == [[0, 0], [0, 1], [0, 0], [0, 0], [2, 3], [0, 0]]
    assert rows.changed(weight[3:], 3).delta.tolist() == [[0, 0], [2, 3], [0, 0]]
    whole = Replacement(values=torch.ones(6, 2, dtype=torch.bfloat16))
    assert whole.changed(weight[2:4], 2).rows.equal(torch.ones(2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("size", [1e-4, 1e-3, 1e-2, 1])
def test_the_signal_is_what_numpy_computes(size, dtype):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(300, 2000, generator=generator).to(torch.bfloat16).float()
    delta = size * torch.randn(300, 4, generator=generator) @ torch.randn(4, 2000, generator=generator) / 2
    merged = (base + delta).to(dtype)
    halves = [
        measured(*(part[rows] for part in (base, delta, merged))) for rows in (slice(90), slice(90, None))
    ]
    signal = sum(halves, Signal())
    w, d, m = (part.float().numpy().astype(np.float64).ravel() for part in (base, delta, merged))
    a = m - w
    close = {"rel": 1e-6, "abs": 1e-9}
    assert signal.projection == pytest.approx(np.dot(a, d) / np.dot(d, d), **close)
    assert signal.cosine == pytest.approx(np.dot(a, d) / np.linalg.norm(a) / np.linalg.norm(d), **close)
    assert signal.error == pytest.approx(np.linalg.norm(a - d) / np.linalg.norm(d), rel=1e-6, abs=1e-7)
    assert signal.changed_share == (m != w).mean()
    assert signal.relative_size == pytest.approx(np.linalg.norm(d) / np.linalg.norm(w), **close)
    if dtype == torch.bfloat16:
        assert (signal.projection < 0.5) is (size < 1e-3) and (signal.projection > 0.97) is (size > 1e-3)


def test_without_an_intended_change_there_is_no_share_of_it():
    signal = measured(torch.ones(3), torch.zeros(3), torch.ones(3))
    assert math.isnan(signal.projection) and math.isnan(signal.error) and signal.relative_size == 0


@pytest.mark.parametrize("method", ["nf4", "fp4", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_quantized_alone_is_that_of_the_loaded_model(method, dtype, tmp_path):
    from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = dict(vocab_size=50, hidden_size=64, intermediate_size=128, num_hidden_layers=1)
    LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).save_pretrained(tmp_path)
    stored = LlamaForCausalLM.from_pretrained(tmp_path).state_dict()
    bits = (
        {"load_in_8bit": True} if method == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": method}
    )
    config = BitsAndBytesConfig(**bits, bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    model = LlamaForCausalLM.from_pretrained(tmp_path, dtype=dtype, quantization_config=config)
    for layer in model.modules():
        if hasattr(getattr(layer, "weight", None), "quant_state"):
            layer.weight.quant_state.dtype = dtype  # as training does, see models/quantization.py
    loaded = dequantize_state_dict(model)
    how = Quantized(method=method, double_quant=True, compute_dtype=dtype)
    for name in ("q_proj", "gate_proj"):
        full = next(key for key in stored if f"{name}.weight" in key)
        assert as_trained(stored[full], dtype, how, torch.device("cpu")).equal(loaded[full])
    norm = "model.norm.weight"
    assert as_trained(stored[norm], dtype, None, torch.device("cpu")).equal(loaded[norm])
