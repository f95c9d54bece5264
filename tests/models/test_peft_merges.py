"""Merges of adapters that peft makes, of several methods and models, beside the logits of its own model."""

from pathlib import Path

import pytest
import torch
from peft import (
    BeftConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    VeraConfig,
    get_peft_model,
)
from test_merging import TEXTS, base_path  # noqa: F401 (a fixture)
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from workbench.config.merge import MergeConfig, MergeDtype
from workbench.config.model import Architecture, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.models.merging.merge import merge

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns of much that is done on purpose here
SIZES = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LAYERS = ["q_proj", "down_proj"]
METHODS = {
    "ia3": IA3Config(target_modules=LAYERS, feedforward_modules=["down_proj"], init_ia3_weights=False),
    "loha": LoHaConfig(target_modules=LAYERS, r=4, init_weights=False),
    "lokr": LoKrConfig(target_modules=LAYERS, r=4, init_weights=False),
    "oft": OFTConfig(target_modules=LAYERS, oft_block_size=8, init_weights=False),
    "beft": BeftConfig(target_modules=LAYERS, init_weights=False),
    "vera": VeraConfig(target_modules=["q_proj", "o_proj"], r=4, init_weights=False),
    "lora with all biases": LoraConfig(target_modules=LAYERS, bias="all", init_lora_weights=False),
}
IDS = torch.tensor([[5, 9, 23, 17, 8, 11]])


def llama():
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(**SIZES, **shape, attention_bias=True, mlp_bias=True))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=64))


def check(model, config, tokenizer_folder, tmp_path):
    """Merge, and compare the folder's logits with those of peft's model."""
    base, adapter, merged = (tmp_path / name for name in ("base", "adapter", "merged"))
    model.save_pretrained(base)
    for file in tokenizer_folder.glob("tokenizer*"):
        (base / file.name).write_bytes(file.read_bytes())
    peft_model = get_peft_model(model, config).eval()
    torch.manual_seed(1)
    for name, parameter in peft_model.named_parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter) if "bias" in name else 0
    peft_model.save_pretrained(adapter)
    section = ModelConfig(path=str(base), architecture=Architecture.native)
    merge(section, adapter, MergeConfig(dtype=MergeDtype.float32), QuantizationConfig(), merged, TEXTS)
    with torch.no_grad():
        expected, found = peft_model(IDS).logits, AutoModelForCausalLM.from_pretrained(merged)(IDS).logits
        with peft_model.disable_adapter():
            effect = (expected - peft_model(IDS).logits).norm()
    assert effect > 0 and (found - expected).norm() < 1e-4 * effect


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_peft_merges_is_merged_and_proven(name, base_path, tmp_path):  # noqa: F811
    torch.manual_seed(0)
    check(llama(), METHODS[name], Path(base_path), tmp_path)


def test_a_tied_model_whose_embedding_has_another_name_is_proven(base_path, tmp_path):  # noqa: F811
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    check(gpt2(), config, Path(base_path), tmp_path)
