"""A LoRA extracted from two checkpoints is the truncated SVD of their difference, and loads in peft."""

import shutil

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_checkpoints import llama, logits, words_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from workbench.config.inspection.extract import ExtractConfig
from workbench.errors import CheckpointError
from workbench.models.adapters import attach
from workbench.models.checkpoints.model_folder import open_base, open_merged
from workbench.models.diagnosis.low_rank import spectrum
from workbench.models.extraction.decompose import closest
from workbench.models.extraction.extract import extract

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that is done on purpose here


RANKS = {"q_proj": 3, "down_proj": 5}


@pytest.fixture
def base(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    words_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def tuned_by(base, change, name="tuned"):
    folder = base.parent / name
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {key: change(key, tensor).contiguous() for key, tensor in tensors.items()},
        folder / "model.safetensors", metadata={"format": "pt"},
    )  # fmt: skip
    return folder


def with_ranks(name, tensor):
    """Add a random matrix of the rank that RANKS has for the layer."""
    rank = next((rank for layer, rank in RANKS.items() if layer in name), 0)
    if not rank:
        return tensor
    rows, columns = tensor.shape
    torch.manual_seed(rank)
    return tensor + 0.05 * torch.randn(rows, rank) @ torch.randn(rank, columns)


def extracted(base, tuned, folder="adapter", **settings):
    path = base.parent / folder
    return path, extract(
        open_base(str(base)), open_merged(str(tuned)), ExtractConfig(**settings), path, "the base"
    )


def test_the_ranks_of_the_difference_are_found_and_peft_gives_the_tuned_model(base):
    tuned = tuned_by(base, with_ranks)
    path, extraction = extracted(base, tuned, share=0.9999)
    assert {layer.name.rpartition(".")[2]: layer.rank for layer in extraction.layers} == RANKS
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), path)
    expected = logits(AutoModelForCausalLM.from_pretrained(tuned))
    assert torch.allclose(logits(model), expected, atol=1e-4)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(base)), expected, atol=0.05)
    assert model.peft_config["default"].base_model_name_or_path == "the base"
    ours = attach.load(AutoModelForCausalLM.from_pretrained(base), path)
    assert torch.allclose(logits(ours), expected, atol=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_the_rank_is_the_least_that_holds_the_share_by_numpy(share, base):
    torch.manual_seed(1)
    tuned = tuned_by(base, lambda name, w: w + 0.01 * torch.randn_like(w) if "v_proj" in name else w)
    _, extraction = extracted(base, tuned, share=share)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    for layer in extraction.layers:
        difference = (after[f"{layer.name}.weight"] - before[f"{layer.name}.weight"]).double().numpy()
        left, values, right = np.linalg.svd(difference)
        held = np.cumsum(values**2) / np.sum(values**2)
        rank = int(np.argmax(held >= share)) + 1
        assert abs(layer.rank - rank) <= 1  # float32 noise is left out of both sums here
        best = (left[:, : layer.rank] * values[: layer.rank]) @ right[: layer.rank]
        assert np.allclose((layer.up @ layer.down).numpy(), best, atol=1e-6)
        assert layer.share == pytest.approx(held[layer.rank - 1], abs=1e-3)


def test_rounding_of_bfloat16_is_not_taken_for_rank(base):
    rounded = tuned_by(base, lambda _, tensor: tensor.bfloat16(), "half")
    tuned = tuned_by(base, lambda name, tensor: with_ranks(name, tensor).bfloat16())
    _, extraction = extracted(rounded, tuned, share=0.95)
    assert all(layer.rank <= RANKS[layer.name.rpartition(".")[2]] for layer in extraction.layers)


def test_a_given_rank_is_the_same_for_all_layers(base):
    _, extraction = extracted(base, tuned_by(base, with_ranks), rank=2)
    assert {layer.rank for layer in extraction.layers} == {2}


def test_changed_norms_are_named_and_left_out_unless_they_are_kept(base):
    tuned = tuned_by(base, lambda name, w: w * 1.5 if name == "model.norm.weight" else with_ranks(name, w))
    left, extraction = extracted(base, tuned, share=0.9999)
    assert extraction.rest == {"model.norm.weight": pytest.approx(0.5)}
    kept, _ = extracted(base, tuned, "kept", share=0.9999, keep_rest=True)
    expected = logits(AutoModelForCausalLM.from_pretrained(tuned))
    for path, is_equal in ((left, False), (kept, True)):
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), path)
        assert torch.allclose(logits(model), expected, atol=1e-4) is is_equal


def test_the_head_of_a_classifier_is_always_kept(base):
    classifier = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    with torch.no_grad():
        for name, weight in classifier.named_parameters():
            weight.copy_(with_ranks(name, weight))
    classifier.config.pad_token_id = 0
    classifier.save_pretrained(base.parent / "classifier")
    path, _ = extracted(base, base.parent / "classifier", share=0.9999)
    torch.manual_seed(5)
    other = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    other.config.pad_token_id = 0
    assert torch.allclose(logits(PeftModel.from_pretrained(other, path)), logits(classifier), atol=1e-4)


def test_equal_checkpoints_and_other_shapes_are_refused_and_leave_nothing(base):
    with pytest.raises(CheckpointError, match="no matrix of a layer differs"):
        extracted(base, tuned_by(base, lambda _, tensor: tensor))
    other = tuned_by(base, lambda name, tensor: tensor[:10] if "embed" in name else tensor, "other")
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight is \[10, 64\], in the base \[96, 64\]"):
        extracted(base, other)
    assert not (base.parent / "adapter").exists()


def test_a_sketched_spectrum_is_the_exact_one_for_the_largest_values(monkeypatch):
    torch.manual_seed(0)
    matrix = torch.randn(300, 12) @ torch.randn(12, 200) + 0.1 * torch.randn(300, 200)
    exact = torch.linalg.svdvals(matrix)[:12]
    monkeypatch.setattr("workbench.models.diagnosis.low_rank.EXACT", 100)
    state = torch.get_rng_state()
    assert torch.allclose(spectrum(matrix, 12).values[:12], exact, rtol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_small_singular_value_of_a_tall_matrix_is_no_rounding():
    left, right = (torch.linalg.qr(torch.randn(size, 8)).Q for size in (20_000, 8))
    difference = left * torch.logspace(0, -2.7, 8) @ right.T
    lora = closest("lm_head", difference, ExtractConfig(share=1, max_rank=8), base_norm=1.0)
    assert lora.rank == 8 and lora.is_whole
