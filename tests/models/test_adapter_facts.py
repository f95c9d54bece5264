"""Norms and scales of updates are peft's, and angles between two adapters scipy's."""

import math

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from scipy.linalg import subspace_angles
from tiny_checkpoints import llama

from workbench.errors import CheckpointError
from workbench.models.adapter_facts.lora_pairs import LoraPair, inner_product, lora_pairs
from workbench.models.adapter_facts.subspaces import compare_adapters, principal_angles

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that is done on purpose here


def adapter(folder, seed=0, **settings):
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]} | settings)
    model = get_peft_model(llama(), config)
    torch.manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.normal_(0, 0.1)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"down_proj": 3}},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
)
def test_the_norm_of_each_update_is_that_of_pefts_delta(settings, tmp_path):
    path = adapter(tmp_path / "a", **settings)
    layers = dict(PeftModel.from_pretrained(llama(), path).get_base_model().named_modules())
    pairs = lora_pairs(path)
    assert len(pairs) == 4 - ("embed_tokens" in settings.get("target_modules", []))
    for pair in pairs:
        delta = layers[pair.module].get_delta_weight("default").double()
        assert pair.norm == pytest.approx(float(delta.norm()), rel=1e-5)
        values = np.linalg.svd(delta.numpy(), compute_uv=False)
        assert np.allclose(pair.spectrum[1].numpy(), values[: len(pair.spectrum[1])], rtol=1e-4)
        assert pair.stable_rank == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-4)


def test_inner_products_are_those_of_the_multiplied_updates(tmp_path):
    first, second = (
        lora_pairs(adapter(tmp_path / str(seed), seed, r=rank)) for seed, rank in ((0, 4), (1, 7))
    )
    for one, other in zip(first, second, strict=True):
        deltas = [pair.scale * pair.up.double() @ pair.down.double() for pair in (one, other)]
        assert inner_product(one, other) == pytest.approx(float((deltas[0] * deltas[1]).sum()), rel=1e-6)


@pytest.mark.parametrize("ranks", [(4, 4), (2, 7), (7, 2)])
def test_angles_are_scipys_for_unequal_ranks_too(ranks, tmp_path):
    first, second = (
        lora_pairs(adapter(tmp_path / str(seed), seed, r=rank)) for seed, rank in enumerate(ranks)
    )
    for layer, one, other in zip(compare_adapters(first, second), first, second, strict=True):
        up = np.degrees(subspace_angles(one.up.double().numpy(), other.up.double().numpy()))[::-1]
        down = np.degrees(subspace_angles(one.down.double().numpy().T, other.down.double().numpy().T))[::-1]
        assert np.allclose(layer.write_angles, up, atol=1e-6) and np.allclose(
            layer.read_angles, down, atol=1e-6
        )
        assert layer.ranks == ranks
        overlap = np.mean(np.cos(np.radians([*up, *down])) ** 2)
        assert layer.overlap == pytest.approx(overlap, abs=1e-9)


def test_an_adapter_and_its_own_multiple_have_no_angle_and_cosine_one(tmp_path):
    pair = lora_pairs(adapter(tmp_path / "a"))[0]
    [layer] = compare_adapters([pair], [LoraPair(pair.module, pair.down, pair.up, -3 * pair.scale)])
    assert layer.cosine == pytest.approx(-1) and layer.overlap == pytest.approx(1)
    assert max(layer.read_angles + layer.write_angles) < 1e-6


def test_tiny_angles_are_not_lost_to_rounding():
    tilted = torch.tensor([[math.cos(1e-9)], [math.sin(1e-9)]], dtype=torch.float64)
    straight = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    assert math.radians(principal_angles(straight, tilted)[0]) == pytest.approx(1e-9, rel=1e-6)


def test_an_untrained_adapter_has_norm_zero_and_no_directions(tmp_path):
    pair = LoraPair("q_proj", torch.randn(4, 8), torch.zeros(8, 4), 2.0)
    [layer] = compare_adapters([pair], [pair])
    assert (pair.norm, pair.stable_rank, layer.ranks, layer.read_angles) == (0.0, 0.0, (0, 0), [])
    assert math.isnan(layer.cosine) and math.isnan(layer.overlap)


def test_an_adapter_without_a_and_b_is_refused(tmp_path):
    model = get_peft_model(llama(), IA3Config(target_modules=["q_proj"], feedforward_modules=[]))
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=": IA3 has no LoRA's matrices A and B"):
        lora_pairs(tmp_path)


def test_adalora_whose_matrices_have_other_names_is_refused_by_its_name(tmp_path):
    model = get_peft_model(llama(), AdaLoraConfig(target_modules=["q_proj"], total_step=9))
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=": ADALORA has no LoRA's matrices A and B"):
        lora_pairs(tmp_path)


def test_an_adapter_with_nan_is_refused_by_the_tensors_name(tmp_path):
    file = adapter(tmp_path / "a") / "adapter_model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[1]
    tensors[name][0, 0] = math.nan
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{name} has NaN or infinite values"):
        lora_pairs(tmp_path / "a")
