"""Chooses xformers' kernels: a forward and a backward kernel that support a kind of call together.

xformers itself chooses the backward kernel only when the backward pass runs, and raises an error if none fits
the forward kernel's results, the mask and PyTorch's deterministic mode.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from workbench.errors import first_line

FAMILIES = ("flash3", "flash", "cutlass", "ck")
"""Modules of xformers.ops.fmha with kernels for both passes, the fastest first."""


@dataclass(frozen=True)
class Call:
    """Everything about a call of attention that decides which kernels support it."""

    kind: str
    """Kind of bias, from `bias_kind`: one token, mask, causal, packed, causal window or packed window."""
    device: torch.device
    dtype: torch.dtype
    width: int
    """Width of a head."""
    has_dropout: bool
    needs_gradient: bool
    deterministic: bool
    """Whether PyTorch's deterministic mode is on."""

    def __str__(self) -> str:
        """Describe the call in the words of the log."""
        passes = "without a backward pass"
        if self.needs_gradient:
            passes = f"with a {'deterministic ' if self.deterministic else ''}backward pass"
        return f"{self.kind}, {str(self.dtype).removeprefix('torch.')}, {passes}"


@dataclass(frozen=True)
class Kernels:
    """Kernels of one family."""

    name: str
    pair: tuple[Any, Any]
    """The kernels of the forward and the backward pass; without gradients, the second is None."""


@cache
def missing_reason(device: torch.device) -> str | None:
    """Return why xformers can't compute any attention on `device`; None: it has kernels for it.

    xformers is loaded, and asked for its kernels, once for each device.
    """
    if device.type != "cuda":
        return f"xformers has no kernel for {device.type}"
    if not find_spec("xformers"):
        return "xformers is not installed"
    try:
        import_module("xformers.ops")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"xformers can't be loaded, {first_line(error)}"
    base = Call("one token", device, torch.float16, 64, False, False, False)
    if all(kernels_for(replace(base, dtype=dtype)) is None for dtype in (torch.float16, torch.float32)):
        return "xformers has no kernel for this GPU and this PyTorch; python -m xformers.info says why"
    return None


@cache
def kernels_for(call: Call) -> Kernels | None:
    """Return the kernels for a kind of call; None: no family supports both passes."""
    fmha = import_module("xformers.ops.fmha")
    inputs = _inputs(call)
    with _determinism(call.deterministic):  # xformers' answers depend on it
        for family in FAMILIES:
            module = getattr(fmha, family, None)
            if module is None or module.FwOp.not_supported_reasons(inputs):
                continue
            if not call.needs_gradient:
                return Kernels(family, (module.FwOp, None))
            if not module.BwOp.not_supported_reasons(inputs):
                return Kernels(family, (module.FwOp, module.BwOp))
    return None


def no_kernel_reason(call: Call) -> str:
    """Return why `kernels_for` has none for a call, and where train.deterministic=false would change that."""
    reason = f"xformers has no kernel for {call} and heads of width {call.width}"
    if call.deterministic and call.needs_gradient and kernels_for(replace(call, deterministic=False)):
        return f"{reason}; it has one with train.deterministic=false"
    return reason


@contextmanager
def _determinism(is_on: bool) -> Iterator[None]:
    """Turn PyTorch's deterministic mode on or off within the context; afterwards it is as before."""
    mode = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(is_on)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


def _inputs(call: Call) -> Any:
    """Return xformers' `Inputs` of a small call of the same kind."""
    fmha, length = import_module("xformers.ops.fmha"), 1 if call.kind == "one token" else 8
    states = [torch.empty(1, length, 2, call.width, device=call.device, dtype=call.dtype) for _ in range(3)]
    return fmha.Inputs(*states, attn_bias=_bias(call), p=0.1 if call.has_dropout else 0.0, scale=1.0)


def _bias(call: Call) -> Any:
    """Return xformers' `attn_bias` of a call's kind for 8 tokens, packed as two texts of 4."""
    biases = import_module("xformers.ops.fmha.attn_bias")
    if call.kind == "one token":
        return None
    if call.kind == "mask":
        return torch.zeros(1, 2, 8, 8, device=call.device, dtype=call.dtype)
    if call.kind.startswith("packed"):
        causal = biases.BlockDiagonalCausalMask.from_seqlens([4, 4], device=call.device)
    else:
        causal = biases.LowerTriangularFromBottomRightMask()
    return causal.make_local_attention(2) if call.kind.endswith("window") else causal
