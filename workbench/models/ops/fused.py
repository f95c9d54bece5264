"""Enables and disables this project's kernels (`model.fused`), in place of which plain PyTorch runs then."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_is_enabled = True


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
