"""Bases that transformers quantizes, tied heads that peft adapts, and layers with transposed weights."""

import pytest
import torch
from merged_folders import LINEAR, load, peft_way, rewrite, tensors_of, write_adapter, write_base
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from workbench.models.checkpoints.model_folder import open_base, open_merged
from workbench.models.diagnosis.diagnose import diagnose

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that is done on purpose here
FOUR_BITS = dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
QUANTIZED = {
    "nf4": FOUR_BITS,
    "nf4 twice": FOUR_BITS | {"bnb_4bit_use_double_quant": True},
    "fp4": FOUR_BITS | {"bnb_4bit_quant_type": "fp4"},
    "int8": dict(load_in_8bit=True),
}


def causes(base, folder, adapter):
    diagnosis = diagnose(open_base(str(base)), open_merged(str(folder)), adapter)
    return {cause for finding in diagnosis.faults for cause in finding.causes}


@pytest.mark.parametrize("method", QUANTIZED)
def test_a_base_that_transformers_has_quantized_and_dequantized_is_named(method, tmp_path):
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    quantized = LlamaForCausalLM.from_pretrained(
        base, quantization_config=BitsAndBytesConfig(**QUANTIZED[method]), dtype=torch.bfloat16
    )
    whole = quantized.dequantize().to(torch.bfloat16)
    merged = PeftModel.from_pretrained(whole, adapter).merge_and_unload()
    merged.config.quantization_config = None
    state = {name: tensor.to(torch.bfloat16) for name, tensor in merged.state_dict().items()}
    folder = peft_way(base, adapter, tmp_path / "merged")
    rewrite(folder, lambda name, _: state[name])
    assert causes(base, folder, adapter) == {f"{method.split()[0]}_base"}


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens", "lm_head"], ["embed_tokens"]])
def test_peft_merges_updates_of_a_tied_weight_into_both_of_its_uses_which_is_named(targets, tmp_path):
    base = write_base(tmp_path / "base", tie_word_embeddings=True)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=[*LINEAR, *targets])
    adapter = write_adapter(tmp_path / "adapter", base, config)
    folder = peft_way(base, adapter, tmp_path / "merged")
    assert "lm_head.weight" not in tensors_of(folder)
    assert causes(base, folder, adapter) == {"tied_embedding"}


@pytest.mark.parametrize("is_merged", [True, False])
def test_transposed_layers_of_gpt2_are_compared_too(is_merged, tmp_path):
    torch.manual_seed(0)
    sizes = dict(n_embd=64, n_layer=2, n_head=4, vocab_size=144, n_positions=32)
    GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.05)).save_pretrained(tmp_path / "base")
    model = get_peft_model(load(tmp_path / "base"), LoraConfig(r=4, target_modules=["c_attn", "c_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.05)
    model.save_pretrained(tmp_path / "adapter")
    folder = (
        peft_way(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
        if is_merged
        else tmp_path / "base"
    )
    found = causes(tmp_path / "base", folder, tmp_path / "adapter")
    assert found == (set() if is_merged else {"not_merged"})


def test_an_embedding_that_is_not_the_adapters_is_named_where_the_layers_are_the_bases(tmp_path):
    base = write_base(tmp_path / "base")
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["embed_tokens"])
    adapter = write_adapter(tmp_path / "adapter", base, config)
    folder = peft_way(base, adapter, tmp_path / "merged")
    rewrite(folder, lambda name, w: torch.randn_like(w.float()).to(w.dtype) if "embed" in name else w)
    assert "further_trained" in causes(base, folder, adapter)
