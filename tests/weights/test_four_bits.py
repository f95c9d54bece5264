"""4-bit weights of all widths, against the published layout read by numpy."""

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_blockwise
from bitsandbytes.nn import Linear4bit, Params4bit
from bitsandbytes.nn.parametrize import replace_parameter_4bit
from torch import nn

from workbench.weights.as_trained import Quantized, as_trained
from workbench.weights.four_bits import dequantize_4bit, quantize_4bit


def by_numpy(packed, state):
    """Two values a byte, the first in the high bits; 64 in a row share a scale, also across rows."""
    scales = state.absmax
    if state.nested:
        scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
    octets = packed.numpy().ravel()
    codes = np.stack([octets >> 4, octets & 15], -1).ravel()[: state.shape.numel()]
    values = state.code.numpy()[codes] * scales.float().numpy()[np.arange(len(codes)) // state.blocksize]
    return torch.from_numpy(values.reshape(state.shape))


@pytest.mark.parametrize("method", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(8, 64), (8, 96), (6, 16), (3, 48), (5, 33), (4, 100), (2, 3, 160), (96,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_have_the_scales_of_their_blocks(shape, method, dtype):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for is_double in (False, True):
        packed, state = quantize_4bit(weight, quant_type=method, compress_statistics=is_double)
        expected = by_numpy(packed, state).to(dtype)
        held = dequantize_4bit(packed, state).view(shape)
        torch.testing.assert_close(held, expected, rtol=0 if dtype == torch.float32 else 2**-8, atol=0)
        how = Quantized(method=method, double_quant=is_double, compute_dtype=dtype)
        assert as_trained(weight, dtype, how, torch.device("cpu")).equal(held.float())


def test_products_and_gradients_of_a_layer_have_them_too():
    torch.manual_seed(0)
    layer = Linear4bit(96, 32, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = Params4bit(torch.randn(32, 96), requires_grad=False, quant_type="nf4")
    layer.to("cpu")  # quantizes
    weight = by_numpy(layer.weight.data, layer.weight.quant_state)
    hidden = torch.randn(5, 96, requires_grad=True)
    outputs = layer(hidden)
    outputs.sum().backward()
    torch.testing.assert_close(outputs, hidden @ weight.T, rtol=0, atol=1e-4)
    torch.testing.assert_close(hidden.grad, weight.sum(0).expand(5, -1), rtol=0, atol=1e-4)


def test_experts_have_them_too():
    module = nn.Module()
    module.experts = nn.Parameter(torch.randn(3, 4, 96, generator=torch.Generator().manual_seed(0)))
    packed, state = quantize_4bit(module.experts.data, quant_type="nf4")
    replace_parameter_4bit(module, "experts")
    torch.testing.assert_close(module.experts, by_numpy(packed, state), rtol=0, atol=0)
