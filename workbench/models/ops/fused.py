"""Enables and disables this project's kernels (`model.fused`), and compiles them (`model.compile`).

Without them plain PyTorch runs. Compiled functions of tensors are one kernel each.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from subprocess import SubprocessError
from typing import Any, TypeVar

import torch
from torch import Tensor

from workbench.errors import DeviceError

Result = TypeVar("Result")

OPTIONS: dict[str, Any] = {
    "emulate_precision_casts": True,  # values are rounded where plain PyTorch rounds them
    "deterministic": True,  # no choice of kernels by their speed, which differs from run to run
}
LIMIT = 64
"""Variants of a function: one value or many in each dimension, dtypes, and with or without gradients."""

_is_enabled = True
_is_compiling = False


def enable_fused(is_enabled: bool) -> None:
    """Enable or disable this project's kernels for all models of the process, until the next call."""
    global _is_enabled
    _is_enabled = is_enabled


@contextmanager
def plain_layers() -> Iterator[None]:
    """Disable this project's kernels for all models within the context; afterwards they are as before."""
    before = _is_enabled
    enable_fused(False)
    try:
        yield
    finally:
        enable_fused(before)


def is_plain() -> bool:
    """Return whether to call plain PyTorch: this project's kernels are disabled, or torch.compile runs."""
    return torch.compiler.is_compiling() or not _is_enabled


def launches_cost(states: Tensor) -> bool:
    """Return whether fewer operations are faster on the device of `states`: on all but a CPU.

    A CPU starts an operation at once, and is faster with operations whose tensors fit into its cache.
    """
    return states.device.type != "cpu"


def enable_compiled(is_enabled: bool) -> None:
    """Enable or disable compiled functions for all models of the process, until the next call."""
    global _is_compiling
    _is_compiling = is_enabled


def check_compiles(device: torch.device) -> None:
    """Check that torch.compile works on this machine, by compiling a function for a device.

    Raises:
        DeviceError: torch.compile fails.
    """
    try:
        compiled(_doubled)(torch.ones(2, 2, device=device))
    except (RuntimeError, ImportError, OSError, SubprocessError) as error:
        if device.type == "cpu" and (missing := missing_compiler()):
            reason = f"{missing};"
        else:
            text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no text")
            reason = f"{type(error).__name__}: {text[:200]}; it needs a C++ compiler and, on a GPU, Triton;"
        raise DeviceError(
            f"model.compile: torch.compile doesn't work on this machine ({reason} or set model.compile=false)"
        ) from error


def missing_compiler() -> str:
    """Return a clause that says which C++ compiler PyTorch doesn't find; empty: it finds one."""
    name = torch._inductor.config.cpp.cxx[-1]  # the variable CXX, or the system's own
    if isinstance(name, str) and shutil.which(name) is None:
        where = f"{name!r} is not in PATH" if name else "CXX is empty"
        return f"no C++ compiler is found, {where}: set CXX to one"
    return ""


def _doubled(states: Tensor) -> Tensor:
    return states * 2


@contextmanager
def not_compiled() -> Iterator[None]:
    """Disable compiled functions within the context; afterwards they are as before."""
    before = _is_compiling
    enable_compiled(False)
    try:
        yield
    finally:
        enable_compiled(before)


def is_compiled(states: Tensor) -> bool:
    """Return whether `compilable` functions of `states` are compiled; on the meta device they aren't."""
    return _is_compiling and states.device.type != "meta"


def compilable(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that computes `function`, compiled if `is_compiled` holds for its first argument.

    The function must be one of tensors, numbers, strings and None alone, and must not change its arguments.
    Compiled, it has no gradients.
    """

    @wraps(function)
    def call(*arguments: Any) -> Result:
        if not is_compiled(arguments[0]):
            return function(*arguments)
        detached = (value.detach() if isinstance(value, Tensor) else value for value in arguments)
        result: Result = compiled(function)(*detached)
        return result

    return call


@cache
def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return `function` compiled for tensors of any size; it is compiled at its first call."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # else one process for each core stays
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, LIMIT)
    known = torch._inductor.list_options()
    options = {name: value for name, value in OPTIONS.items() if name in known}
    return torch.compile(function, dynamic=True, options=options)
