"""What rounding leaves of an adapter: figures of a merge against a computation by hand, and verdicts."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import llama, words_tokenizer

from workbench.config.adapter import AdapterConfig
from workbench.config.merge import MergeConfig, MergeDtype
from workbench.config.model import Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError
from workbench.models import logit_comparison
from workbench.models.adapters import attach
from workbench.models.loading import load_model, load_tokenizer
from workbench.models.merging.merge import merge

TEXTS = ["w3 w5 w8 w13 w21 w34 w55", "w7 w11 w18 w29 w47 w76", "w90 w41 w64 w6"]
PLAIN = QuantizationConfig()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A LLaMA in bfloat16."""
    folder = tmp_path_factory.mktemp("base")
    llama().to(torch.bfloat16).save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return ModelConfig(path=str(folder))


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    """A LoRA whose update is about 1% of the weights."""
    model = attach.attach(load_model(base, PLAIN), AdapterConfig(rank=4, alpha=8.0), seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.006 * torch.randn(parameter.shape, generator=generator)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    attach.save(model, folder)
    return folder


def scaled(adapter, scale, folder):
    """The adapter with its B times `scale`."""
    folder.mkdir()
    for file in adapter.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors = {name: tensor * scale if "lora_B" in name else tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def log_probabilities(model, section):
    batches = logit_comparison.encode(load_tokenizer(section), TEXTS, 128, 4)
    logits = torch.cat(list(logit_comparison.logits(model, batches))).numpy().astype(np.float64)
    logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logits - logits.mean(-1, keepdims=True)


def by_hand(base, adapter):
    """Figures of the weights, P and r of the probe, of a merge that is rounded to bfloat16 here."""
    base = ModelConfig(path=base.path, dtype=Dtype.float32)  # bfloat16 weights, computed in float32
    before = log_probabilities(load_model(base, PLAIN), base)
    intended = log_probabilities(attach.load(load_model(base, PLAIN), adapter), base)
    model = load_model(base, PLAIN)
    tensors = load_file(adapter / "adapter_model.safetensors")
    changes, arrived = [], []
    for name, parameter in model.named_parameters():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" not in tensors:
            continue
        delta = 2.0 * tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
        weight = parameter.data.float()
        parameter.data = (weight + delta).to(torch.bfloat16).float()
        changes.append(delta.numpy().astype(np.float64).ravel())
        arrived.append((parameter.data - weight).numpy().astype(np.float64).ravel())
    d, a = np.concatenate(changes), np.concatenate(arrived)
    m = log_probabilities(model, base)
    weights = {
        "changed": (a != 0).mean(),
        "projection": a @ d / (d @ d),
        "cosine": a @ d / np.sqrt((a @ a) * (d @ d)),
        "error": np.linalg.norm(a - d) / np.linalg.norm(d),
    }
    effect = intended - before
    kept = ((m - before) * effect).sum() / (effect**2).sum()
    return weights, kept, np.linalg.norm(m - intended) / np.linalg.norm(effect)


def merged(base, adapter, folder, **section):
    return merge(base, adapter, MergeConfig(**section), PLAIN, folder, TEXTS)


def test_the_figures_of_a_merge_are_those_of_a_computation_by_hand(base, adapter, tmp_path):
    report = merged(base, adapter, tmp_path / "merged")
    weights, kept, error = by_hand(base, adapter)
    for name, value in weights.items():
        assert getattr(report.weights, name) == pytest.approx(value, rel=1e-6), name
    assert report.effect.kept == pytest.approx(kept, rel=1e-4)
    assert report.effect.error == pytest.approx(error, rel=1e-3)
    distances = report.effect.merged_from_adapter / report.effect.adapter_from_base
    assert distances == pytest.approx(report.effect.error)
    said = f"the merged model keeps {100 * kept:.0f}% of what the adapter does to the probe texts"
    assert report.summary == said
    assert len(report.modules) == 14 and 0.9 < report.weights.projection < 1.1


def test_an_adapter_that_rounding_erases_is_refused_by_the_figures_of_a_hand(base, adapter, tmp_path):
    small = scaled(adapter, 0.01, tmp_path / "small")
    _, kept, error = by_hand(base, small)
    with pytest.raises(CheckpointError, match="rounding to bfloat16 erases the adapter") as caught:
        merged(base, small, tmp_path / "run" / "merged")
    assert "merge.dtype=float32 keeps it" in str(caught.value) and "\n" not in str(caught.value)
    shares = [float(text) for text in re.findall(r"(-?[\d.]+)%", str(caught.value))]
    assert shares == pytest.approx([100 * kept, 100 * error], abs=0.6)
    assert kept < 0.5 and list((tmp_path / "run").iterdir()) == []
    report = merged(base, small, tmp_path / "whole", dtype=MergeDtype.float32)
    assert report.effect.kept == pytest.approx(1, abs=0.01) and report.effect.error < 0.05


def test_a_sweep_of_scales_is_refused_where_less_than_half_is_kept(base, adapter, tmp_path, caplog):
    published, kept = {}, {}
    for scale in (0.001, 0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 1.0):
        sized = scaled(adapter, scale, tmp_path / f"{scale}")
        _, kept[scale], error = by_hand(base, sized)
        caplog.clear()
        try:
            merged(base, sized, tmp_path / f"merged-{scale}")
        except CheckpointError as refusal:
            assert "erases" in str(refusal) or "does nothing" in str(refusal)
            published[scale] = False
        else:
            published[scale] = True
            assert ("weakens the adapter" in caplog.text) is bool(kept[scale] < 0.9 or error > 0.5)
        assert published[scale] is bool(kept[scale] >= 0.5 and error < 1)
    assert not published[0.001] and published[1.0]


def test_a_weakened_merge_says_its_share_in_the_summary_alone(base, adapter, tmp_path, caplog):
    report = merged(base, scaled(adapter, 0.2, tmp_path / "small"), tmp_path / "merged", probe=False)
    said = r"the merged model keeps \d+% of what .* the weights; its rounding error is \d+% of that"
    assert re.fullmatch(said, report.summary)
    assert "to bfloat16 weakens the adapter (merge.dtype=float32 keeps it)" in caplog.text
    assert "%" not in caplog.text


@pytest.mark.parametrize(("scale", "said"), [(0.01, "erases"), (0.0, "all lora_B matrices are zero")])
def test_without_a_probe_the_weights_decide(scale, said, base, adapter, tmp_path):
    small = scaled(adapter, scale, tmp_path / "small")
    with pytest.raises(CheckpointError, match=said):
        merged(base, small, tmp_path / "merged", probe=False)
    report = merged(base, adapter, tmp_path / "merged", probe=False)
    assert report.effect is None and report.merged is None
    share = 100 * report.weights.projection
    assert report.summary == f"the merged model keeps {share:.0f}% of what the adapter does to the weights"


def test_an_adapter_whose_effect_is_below_the_noise_does_nothing(base, adapter, tmp_path):
    tiny = scaled(adapter, 1e-6, tmp_path / "tiny")
    section = ModelConfig(path=base.path, dtype=Dtype.float32)
    with pytest.raises(CheckpointError, match="nothing to the probe texts.*merge.probe=false proves"):
        merged(section, tiny, tmp_path / "merged")
