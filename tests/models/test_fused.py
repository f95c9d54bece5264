"""Without this project's kernels Open-Llama gives the same numbers, and none of them is called."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import TINY, model, tokens
from tiny_checkpoints import VOCABULARY, words_tokenizer
from transformers.modeling_outputs import CausalLMOutputWithPast

from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.models.loading import load_model
from workbench.models.ops import (
    cpu_attention,
    elementwise,
    int8_linear,
    lora_projection,
    loss,
    prepacked_linear,
)
from workbench.models.ops.fused import plain_layers

KERNELS = [
    elementwise._RMSNorm,
    elementwise._Gated,
    elementwise._NormInFloat32,
    elementwise._Rotation,
    lora_projection._Updates,
    loss._ChunkedLoss,
    cpu_attention._Blocked,
    int8_linear._Product,
]
LONG = 160
"""Tokens, more than the attention of our own has as its fewest."""

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def adapted(dtype=torch.float32):
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_dropout_prob": 0.0}
    made = model(max_position_embeddings=LONG, num_key_value_heads=2, **no_dropout).to(dtype)
    torch.manual_seed(1)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return get_peft_model(made, LoraConfig(r=4, target_modules=layers, init_lora_weights=False)).train()


def step(made, **given):
    """Output of one training step, and its gradients."""
    made.zero_grad()
    ids = tokens(length=LONG)
    output = made(ids, labels=ids, **given)
    output.loss.backward()
    gradients = {name: weight.grad for name, weight in made.named_parameters() if weight.grad is not None}
    return output, gradients


def forbid_kernels(monkeypatch):
    def refuse(*_):
        raise AssertionError("a kernel was called")

    for kernel in KERNELS:
        monkeypatch.setattr(kernel, "apply", refuse)
    monkeypatch.setattr(prepacked_linear._Copies, "of", refuse)


@pytest.mark.parametrize("packed", [False, True], ids=["one text a row", "packed"])
def test_fused_and_plain_layers_give_the_same_loss_logits_and_gradients(packed):
    made = adapted()
    given = {"position_ids": torch.arange(LONG // 2).repeat(2)[None]} if packed else {}
    fused, fused_gradients = step(made, **given)
    with plain_layers():
        plain, plain_gradients = step(made, **given)
    assert type(plain) is CausalLMOutputWithPast is not type(fused)
    torch.testing.assert_close(fused.loss, plain.loss)
    torch.testing.assert_close(fused.logits, plain.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fused_gradients, plain_gradients, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_plain_layers_call_no_kernel_in_training_and_generation(dtype, monkeypatch):
    made = adapted(dtype)
    forbid_kernels(monkeypatch)
    with pytest.raises(AssertionError, match="a kernel was called"):
        step(made)
    with plain_layers():
        output, _ = step(made)
        made.eval().generate(tokens(length=8), max_new_tokens=8, do_sample=False)
    assert torch.isfinite(output.loss)


def test_a_loaded_model_takes_the_kernels_that_its_section_asks_for(tmp_path, monkeypatch):
    words_tokenizer().save_pretrained(tmp_path)
    section = ModelConfig(tokenizer=str(tmp_path), init={**TINY, "vocab_size": VOCABULARY}, fused=False)
    with plain_layers():  # sets the switch back afterwards
        loaded = load_model(section, QuantizationConfig()).train()
        forbid_kernels(monkeypatch)
        ids = torch.full((1, 8), 3)
        loaded(ids, labels=ids)
        load_model(replace(section, fused=True), QuantizationConfig())
        with pytest.raises(AssertionError, match="a kernel was called"):
            loaded(ids, labels=ids)
