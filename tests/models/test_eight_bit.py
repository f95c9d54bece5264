"""Products with weights of 8 bits against bitsandbytes' own."""

import gc
import weakref

import pytest
import torch
from tiny_checkpoints import at, llama
from torch.utils.checkpoint import checkpoint

from workbench.config.adapter import AdapterConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.models.adapters.attach import attach
from workbench.models.loading import load_model
from workbench.models.ops import int8_linear, lora_projection
from workbench.models.ops.prepacked_linear import multiply
from workbench.models.quantization import Linear8bitLt

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def model(tmp_path):
    llama(num_key_value_heads=2).save_pretrained(tmp_path)
    return load_model(at(tmp_path), QuantizationConfig(method=QuantizationMethod.int8))


def layer(model):
    return next(module for module in model.modules() if isinstance(module, Linear8bitLt))


def results(product, made, dtype):
    torch.manual_seed(1)
    hidden = torch.randn(2, 5, made.in_features, dtype=dtype, requires_grad=True)
    out = product(hidden)
    out.backward(torch.randn_like(out))
    return out, hidden.grad


@pytest.mark.parametrize("first", ["ours", "bitsandbytes"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_output_and_gradient_are_bitsandbytes_to_the_bit(model, dtype, bias, first):
    made = layer(model)
    if bias:
        made.bias = torch.nn.Parameter(torch.randn(made.out_features), requires_grad=False)
    assert int8_linear.is_eight_bit(made)
    products = {"ours": lambda hidden: multiply(made, hidden), "bitsandbytes": made}
    found = {name: results(products[name], made, dtype) for name in sorted(products, key=first.__ne__)}
    for ours, theirs in zip(found["ours"], found["bitsandbytes"], strict=True):
        assert torch.equal(ours, theirs)


def test_a_trained_bias_gets_its_gradient(model):
    made = layer(model)
    made.bias = torch.nn.Parameter(torch.zeros(made.out_features))
    multiply(made, torch.ones(2, 3, made.in_features)).sum().backward()
    assert torch.equal(made.bias.grad, torch.full((made.out_features,), 6.0))


def test_checkpointing_lets_go_of_the_input(model):
    def inner(hidden):
        inside = hidden * 2
        kept.append(weakref.ref(inside))
        return multiply(layer(model), inside)

    kept = []
    hidden = torch.randn(4, layer(model).in_features, requires_grad=True)
    out = checkpoint(inner, hidden, use_reentrant=False)
    gc.collect()
    assert kept[0]() is None
    out.sum().backward()
    assert hidden.grad is not None


def test_adapters_share_the_work_on_their_input(model):
    adapted = attach(model, AdapterConfig(rank=4), seed=0)
    layers = [module for module in adapted.modules() if isinstance(module, lora_projection._lora_classes())]
    assert len(layers) == 14
    assert all(lora_projection.plain_lora(each) for each in layers)


def test_a_layer_with_another_hook_is_called_as_it_is(model):
    made = layer(model)
    made.register_forward_hook(lambda *_: "hooked")
    assert multiply(made, torch.ones(1, made.in_features)) == "hooked"


def test_a_whole_layer_is_none_of_8_bits():
    assert not int8_linear.is_eight_bit(torch.nn.Linear(2, 2))
