"""The switch of this project's own kernels, `model.fused`: off, Open-Llama is plain PyTorch modules."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_is_enabled = True


def enable_fused(is_enabled: bool) -> None:
    """Let all models of this process take the kernels, or none."""
    global _is_enabled
    _is_enabled = is_enabled


@contextmanager
def plain_layers() -> Iterator[None]:
    """Take no kernel of ours within."""
    before = _is_enabled
    enable_fused(False)
    try:
        yield
    finally:
        enable_fused(before)


def is_plain() -> bool:
    """Whether to take plain operations: the kernels are switched off, or torch.compile makes its own."""
    return torch.compiler.is_compiling() or not _is_enabled
