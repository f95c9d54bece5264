"""An adapter of another method becomes the LoRA nearest to what it does to the base, and loads in peft."""

import json

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import (
    FourierFTConfig,
    HiraConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    OFTConfig,
    PeftModel,
    PromptTuningConfig,
    PsoftConfig,
    VeraConfig,
    convert_to_lora,
    get_peft_model,
)
from safetensors.torch import load_file
from tiny_checkpoints import at, llama, logits, words_tokenizer
from transformers import AutoModelForCausalLM

from workbench.config.inspection.extract import ExtractConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError
from workbench.models.adapters.provenance import base_mismatches, trained_on, write_trained_on
from workbench.models.checkpoints import weights_fingerprint
from workbench.models.extraction.convert import CONVERTED_FROM, Source, convert

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that is done on purpose here
LAYERS = ["q_proj", "down_proj"]
WHOLE = {"share": 1.0, "max_rank": 96}
METHODS = {
    "loha": LoHaConfig(target_modules=LAYERS, r=3, init_weights=False),
    "lokr": LoKrConfig(target_modules=LAYERS, r=3, init_weights=False),
    "miss": MissConfig(target_modules=LAYERS, r=4, init_weights=False),
    "vera": VeraConfig(target_modules=LAYERS, r=4, init_weights=False),
    "oft": OFTConfig(target_modules=LAYERS, oft_block_size=8, init_weights=False),
    "hira": HiraConfig(target_modules=LAYERS, r=4, init_weights=False),
    "ia3": IA3Config(target_modules=LAYERS, feedforward_modules=["down_proj"], init_ia3_weights=False),
    "fourierft": FourierFTConfig(target_modules=LAYERS, n_frequency=50, init_weights=False),
    "dora": LoraConfig(target_modules=LAYERS, r=4, use_dora=True, init_lora_weights=False),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    llama().save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return folder


def made(config, folder, model=None):
    """Save an adapter with random values; return peft's model."""
    torch.manual_seed(2)
    peft_model = get_peft_model(model or llama(), config).eval()
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    peft_model.save_pretrained(folder)
    return peft_model


def converted(base, tmp_path, quantization=None, **settings):
    source = Source(
        model=at(base),
        quantization=quantization or QuantizationConfig(),
        adapter_path=str(tmp_path / "adapter"),
    )
    return convert(source, ExtractConfig(**settings), tmp_path / "converted")


def loaded(base, tmp_path):
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "converted")


@pytest.mark.parametrize("method", METHODS)
def test_at_full_rank_the_lora_gives_the_adapters_logits(method, base, tmp_path):
    original = made(METHODS[method], tmp_path / "adapter")
    extraction = converted(base, tmp_path, **WHOLE)
    lora = loaded(base, tmp_path)
    assert type(lora.peft_config["default"]) is LoraConfig and not lora.peft_config["default"].use_dora
    assert torch.allclose(logits(lora), logits(original), atol=1e-4)
    assert not torch.allclose(logits(llama()), logits(original), atol=1e-2)
    assert all(layer.is_whole for layer in extraction.layers) and len(extraction.layers) == 4


def test_a_lora_gives_itself_back(base, tmp_path):
    config = LoraConfig(
        target_modules=[*LAYERS, "embed_tokens", "lm_head"], r=3, lora_alpha=7, init_lora_weights=False
    )
    original = made(config, tmp_path / "adapter")
    extraction = converted(base, tmp_path, share=1.0)
    assert [layer.rank for layer in extraction.layers] == [3] * 6
    expected, found = original.merge_and_unload(), loaded(base, tmp_path).merge_and_unload()
    for (name, weight), other in zip(expected.named_parameters(), found.parameters(), strict=True):
        assert (weight - other).abs().max() < 1e-5 * max(1, weight.abs().max()), name


def test_the_update_is_that_of_pefts_own_conversion(base, tmp_path):
    original = made(METHODS["loha"], tmp_path / "adapter")
    layers = converted(base, tmp_path, rank=5).layers
    _, tensors = convert_to_lora(original, 5)
    for layer in layers:
        prefix = f"base_model.model.{layer.name}.lora_"
        expected = tensors[f"{prefix}B.weight"] @ tensors[f"{prefix}A.weight"]
        assert torch.allclose(layer.up @ layer.down, expected, atol=1e-5)


def test_the_base_is_hashed_once_for_the_check_and_the_record(base, tmp_path, monkeypatch):
    hashed = []
    of_tensors = weights_fingerprint.tensors_fingerprint
    monkeypatch.setattr(
        weights_fingerprint,
        "tensors_fingerprint",
        lambda tensors: hashed.append(of_tensors(tensors)) or hashed[-1],
    )
    made(METHODS["loha"], tmp_path / "adapter")
    write_trained_on(trained_on(at(base), QuantizationConfig(), "float32"), tmp_path / "adapter")
    hashed.clear()
    converted(base, tmp_path)
    assert len(hashed) == 1
    written = json.loads((tmp_path / "converted" / CONVERTED_FROM).read_text())
    assert written.keys() == {"schema_version", "name", "method", "energy_kept", "layers"}


@pytest.mark.parametrize("settings", [{"share": 0.7}, {"share": 1.0, "max_rank": 6}])
def test_rank_and_energy_are_numpys(settings, base, tmp_path):
    original = made(METHODS["oft"], tmp_path / "adapter")
    layers = converted(base, tmp_path, **settings).layers
    merged, before = original.merge_and_unload().state_dict(), llama().state_dict()
    for layer in layers:
        difference = merged[f"{layer.name}.weight"] - before[f"{layer.name}.weight"]
        values = np.linalg.svd(difference.double().numpy(), compute_uv=False)
        held = np.cumsum(values**2) / np.sum(values**2)
        wanted = int(np.sum(held < settings["share"])) + 1
        assert layer.rank == min(wanted, settings.get("max_rank", 128)) and not layer.is_whole
        assert layer.share == pytest.approx(held[layer.rank - 1], abs=1e-5)
    written = json.loads((tmp_path / "converted" / CONVERTED_FROM).read_text())
    assert written["method"] == "OFT" and set(written["layers"]) == {layer.name for layer in layers}
    total = sum(layer.energy for layer in layers)
    assert written["energy_kept"] == pytest.approx(
        sum(layer.share * layer.energy for layer in layers) / total
    )


def test_the_update_is_taken_at_the_quantized_base(base, tmp_path):
    original = made(METHODS["hira"], tmp_path / "adapter")
    nf4 = QuantizationConfig(method=QuantizationMethod.nf4, double_quant=False)
    layers = converted(base, tmp_path, nf4, **WHOLE).layers
    before = load_file(base / "model.safetensors")
    for layer in layers:
        weight = before[f"{layer.name}.weight"]
        held = dequantize_4bit(*quantize_4bit(weight, quant_type="nf4"))
        module = original.get_base_model().get_submodule(layer.name)
        expected = held * (module.hira_B["default"] @ module.hira_A["default"])
        assert torch.allclose(layer.up @ layer.down, expected, atol=1e-5)
        assert not torch.allclose(held, weight, atol=1e-3)
    assert base_mismatches(tmp_path / "converted", at(base), nf4, "float32") == []
    assert base_mismatches(tmp_path / "converted", at(base), QuantizationConfig(), "float32")


def test_a_module_that_the_adapter_saves_whole_is_kept_whole(base, tmp_path):
    config = LoKrConfig(target_modules=LAYERS, r=3, init_weights=False, modules_to_save=["lm_head"])
    original = made(config, tmp_path / "adapter")
    assert list(converted(base, tmp_path, **WHOLE).whole_weights) == ["lm_head.weight"]
    assert torch.allclose(logits(loaded(base, tmp_path)), logits(original), atol=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (METHODS["ia3"], "q_proj: the adapter changes its bias, which a LoRA can't hold .merge it"),
        (LoraConfig(target_modules=LAYERS, bias="all"), "bias without the rest of its module"),
        (
            LoraConfig(target_modules=LAYERS, trainable_token_indices=[3]),
            "trains rows of embed_tokens",
        ),
        (PsoftConfig(target_modules=LAYERS, r=4), "PSOFT can't be converted layer by layer .merge it with"),
        (LNTuningConfig(target_modules=["norm"]), "LN_TUNING can't be converted layer by layer"),
        (PromptTuningConfig(num_virtual_tokens=3), "PROMPT_TUNING trains a prompt and adapts no layers"),
    ],
)
def test_what_no_lora_can_hold_is_refused_in_one_line_and_leaves_nothing(config, message, tmp_path):
    biased = llama(attention_bias=True, mlp_bias=True)
    for name, parameter in biased.named_parameters():
        parameter.data += name.endswith("bias")
    config.task_type = "CAUSAL_LM"
    biased.save_pretrained(tmp_path / "base")
    made(config, tmp_path / "adapter", biased)
    with pytest.raises(CheckpointError, match=message) as caught:
        converted(tmp_path / "base", tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "converted").exists()
