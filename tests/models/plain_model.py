"""Scores and trains models with transformers and peft alone: one text at a time, without a cache."""

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

Text = tuple[list[int], int]
"""Token ids, and how many of them, at the start, aren't scored."""


def load(folder: Path, method: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model in a folder, quantized by transformers and bitsandbytes and then dequantized."""
    settings: dict[str, Any] = {}
    is_mamba = AutoConfig.from_pretrained(folder).model_type == "mamba"  # its code multiplies a weight itself
    skipped = {"llm_int8_skip_modules": ["lm_head", r"(.*\.)?dt_proj"]} if is_mamba else {}
    if method == "int8":
        settings["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True, **skipped)
    if method == "nf4":
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            **skipped,
        )
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", **settings
    ).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            model.set_submodule(name, dequantized(module, dtype))
    if method == "nf4":
        for name, weight in model.named_parameters():
            if weight.dim() == 3 and "expert" in name:
                packed, state = quantize_4bit(weight.data, compress_statistics=True, quant_type="nf4")
                weight.data = dequantize_4bit(packed, state).to(dtype)
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.is_loaded_in_8bit = model.is_loaded_in_4bit = model.is_quantized = False
    return model


def dequantized(layer: nn.Module, dtype: torch.dtype) -> nn.Linear:
    """A linear layer with the values that a quantized layer stands for."""
    weight: Any = layer.weight
    if isinstance(layer, bnb.nn.Linear4bit):
        values = dequantize_4bit(weight.data, weight.quant_state)
    else:
        values = weight.CB.float() * weight.SCB[:, None] / 127
    linear = nn.Linear(values.shape[1], values.shape[0], bias=layer.bias is not None)
    linear.weight.data = values.to(dtype)
    if layer.bias is not None:
        linear.bias.data = layer.bias.data.to(dtype)
    return linear


def logprobs(model: nn.Module, text: Text) -> Tensor:
    """Log-probabilities, in nats, of a text's scored tokens."""
    ids, start = text
    for module in model.modules():  # ropes that depend on the length remember the longest text
        if hasattr(module, "original_inv_freq") and hasattr(module, "max_seq_len_cached"):
            module.max_seq_len_cached = module.original_max_seq_len
            module.inv_freq = module.original_inv_freq.clone()
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    return -cross_entropy(logits[start - 1 : -1], torch.tensor(ids[start:]), reduction="none")


@torch.no_grad()
def scores(model: nn.Module, texts: list[Text]) -> Tensor:
    """Log-likelihood of each text's scored tokens."""
    return torch.stack([logprobs(model.eval(), text).sum() for text in texts])


def losses(model: PeftModel, texts: list[Text], num_steps: int, learning_rate: float) -> list[float]:
    """Mean loss of a token before each of some steps of AdamW on all texts, with a rate that falls to 0."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    num_tokens = sum(len(ids) - start for ids, start in texts)
    means = []
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / num_steps)
        total = 0.0
        for text in texts:
            loss = -logprobs(model, text).sum() / num_tokens
            loss.backward()
            total += loss.item()
        means.append(total)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return means
