"""Weights laid out for the processor while text is decoded give the same products, and only then."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import model, tokens
from torch import nn

from workbench.models.ops import cpu_attention, prepacked_linear

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

needs_bfloat16 = pytest.mark.skipif(
    not cpu_attention.multiplies_bfloat16(), reason="no bfloat16 products on this processor"
)


def layer(bias=False):
    torch.manual_seed(0)
    return nn.Linear(64, 96, bias=bias, dtype=torch.bfloat16)


def copies():
    found = prepacked_linear._copies.get()
    return {} if found is None else {key: value for key, value in found.weights.items() if value is not None}


@needs_bfloat16
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 64), (8, 1, 64), (2, 7, 64), (32, 64)])
def test_the_product_is_the_layers(shape, bias):
    made, hidden = layer(bias), torch.randn(shape, dtype=torch.bfloat16)
    with torch.no_grad(), prepacked_linear.prepacked():
        found = prepacked_linear.multiply(made, hidden)
        assert list(copies()) == [made]
        torch.testing.assert_close(found, made(hidden))


@needs_bfloat16
def test_nothing_is_copied_that_is_not_a_plain_product_with_few_tokens():
    made, hidden = layer(), torch.randn(4, 64, dtype=torch.bfloat16)
    hooked = layer()
    hooked.register_forward_hook(lambda module, args, output: output + 1)
    with prepacked_linear.prepacked():
        prepacked_linear.multiply(made, hidden)  # with a graph
        with torch.no_grad():
            prepacked_linear.multiply(made, hidden.repeat(9, 1))
            prepacked_linear.multiply(made.float(), hidden.float())
            assert torch.equal(prepacked_linear.multiply(hooked, hidden), hooked(hidden))
        assert not copies()
    with torch.no_grad():
        prepacked_linear.multiply(layer(), hidden)
    assert prepacked_linear._copies.get() is None


@needs_bfloat16
def test_a_weight_changed_after_decoding_counts():
    made, hidden = layer(), torch.randn(1, 64, dtype=torch.bfloat16)
    for _ in range(2):
        with torch.no_grad(), prepacked_linear.prepacked():
            torch.testing.assert_close(prepacked_linear.multiply(made, hidden), made(hidden))
        made.weight.data.neg_()


@needs_bfloat16
def test_copies_stay_within_their_share_of_memory(monkeypatch):
    monkeypatch.setattr(prepacked_linear, "SHARE", 0.0)
    with torch.no_grad(), prepacked_linear.prepacked():
        prepacked_linear.multiply(layer(), torch.randn(1, 64, dtype=torch.bfloat16))
        assert not copies()


@needs_bfloat16
@pytest.mark.parametrize("adapter", ["none", "on", "off"])
def test_generate_uses_copies_of_every_layer_and_finds_the_same_text(adapter, monkeypatch):
    made = model(use_memory_efficient_attention=False).bfloat16()
    if adapter != "none":
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        made = get_peft_model(made, config).eval()
        if adapter == "off":
            made.base_model.disable_adapter_layers()
    used = []
    plain = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(
        torch.ops.mkldnn, "_reorder_linear_weight", lambda *args: used.append(args) or plain(*args)
    )
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    ids = tokens()
    found = made.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    assert len(used) == 2 * 7 + 1
    monkeypatch.setattr(prepacked_linear, "multiplies_bfloat16", lambda: False)
    assert torch.equal(found, made.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options))
    assert len(used) == 2 * 7 + 1
