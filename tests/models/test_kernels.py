"""The element-wise functions are their formulas, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from transformers.activations import ACT2FN

from workbench.models.ops import elementwise

ACTIVATIONS = ("silu", "swish", "gelu", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_new", "relu", "linear")


def compare(ours, formula, *given, exact=False, **tolerance):
    """Values and gradients of both functions, with and without a graph."""
    given = [each.requires_grad_() for each in given]
    found, wanted = ours(*given), formula(*given)
    slope = torch.randn_like(wanted)
    torch.testing.assert_close(found, wanted, **({"atol": 0, "rtol": 0} if exact else tolerance))
    gradients = torch.autograd.grad(wanted, given, slope)
    torch.testing.assert_close(torch.autograd.grad(found, given, slope), gradients, **tolerance)
    with torch.no_grad():
        assert torch.equal(ours(*given), found)


def norm(hidden, weight):
    exact = hidden.float()
    return (exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + 1e-3)).to(hidden.dtype) * weight


def turned(states, cos, sin):
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat((-second, first), -1) * sin


TOLERANCE = {torch.float32: {"atol": 1e-5, "rtol": 1e-5}, torch.bfloat16: {"atol": 0.15, "rtol": 0.02}}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rms_norm(dtype):
    torch.manual_seed(0)
    hidden, weight = torch.randn(3, 5, 16, dtype=dtype), torch.rand(16, dtype=dtype)
    compare(lambda h, w: elementwise.rms_norm(h, w, 1e-3), norm, hidden, weight, **TOLERANCE[dtype])


def test_rms_norm_with_a_float32_weight_gives_float32_as_the_product_does():
    hidden, weight = torch.randn(3, 16, dtype=torch.bfloat16), torch.rand(16)
    compare(lambda h, w: elementwise.rms_norm(h, w, 1e-3), norm, hidden, weight, atol=0.15, rtol=0.02)
    assert elementwise.rms_norm(hidden, weight, 1e-3).dtype == torch.float32


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", [ACT2FN[name] for name in ACTIVATIONS], ids=ACTIVATIONS)
def test_gated(activation, dtype):
    torch.manual_seed(0)
    gate, up = torch.randn(3, 8, dtype=dtype), torch.randn(3, 8, dtype=dtype)
    ours = lambda g, u: elementwise.gated(activation, g, u)  # noqa: E731
    compare(ours, lambda g, u: activation(g) * u, gate, up, exact=True, **TOLERANCE[dtype])


def test_hooks_of_an_activation_are_called():
    activation, calls = torch.nn.SiLU(), []
    hook = activation.register_forward_hook(lambda module, args, output: calls.append(output))
    gate, up = torch.randn(3, 8, requires_grad=True), torch.randn(3, 8)
    elementwise.gated(activation, gate, up).sum().backward()
    with torch.no_grad():
        elementwise.gated(activation, gate, up)
    assert len(calls) == 2 and torch.equal(calls[0], F.silu(gate))
    hook.remove()
    elementwise.gated(activation, gate, up)
    assert len(calls) == 2


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rotate(dtype):
    torch.manual_seed(0)
    states, angles = torch.randn(2, 5, 3, 8, dtype=dtype), torch.randn(1, 5, 1, 4)
    cos = torch.cat([angles.cos()] * 2, -1).to(dtype)
    sin, signed = (torch.cat([sign * angles.sin(), angles.sin()], -1).to(dtype) for sign in (1, -1))
    ours = lambda s: elementwise.rotate(s, cos, signed)  # noqa: E731
    compare(ours, lambda s: turned(s, cos, sin), states, exact=True, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_pytorch_tanh"])
def test_backward_pass_keeps_nothing_but_inputs(name, dtype):
    hidden = torch.randn(4, 64, 32, dtype=dtype, requires_grad=True)
    weight = torch.ones(32, dtype=dtype)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        activation = ACT2FN[name]
        elementwise.gated(activation, elementwise.rms_norm(hidden, weight, 1e-3), F.relu(hidden))
    large = {each.data_ptr() for each in kept if each.numel() == hidden.numel()}
    assert len(large) == 3  # the input, the gate, and `up`, which relu keeps too
