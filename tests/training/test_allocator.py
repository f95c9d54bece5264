"""What the process holds after tensors are gone."""

import sys

import pytest
import torch

from workbench.training.allocator import GiveBack, libc_function
from workbench.training.forecast import resident_bytes

MIB = 1 << 20
glibc = pytest.mark.skipif(libc_function("malloc_trim") is None, reason="not the GNU C library")


def holes():
    """Every tenth of 200 tensors of a MiB, with a hole where the others were; and what was there before."""
    large = torch.ones(30 * MIB // 4)  # freed, it makes the C library keep smaller blocks on its heap
    del large
    before = resident_bytes()
    tensors = [torch.ones(MIB // 4) for _ in range(200)]
    assert resident_bytes() - before > 150 * MIB
    return tensors[::10], before


@glibc
def test_the_holes_between_living_tensors_go_back_to_the_system_after_a_step():
    living, before = holes()
    assert resident_bytes() - before > 100 * MIB
    GiveBack().on_step_end()
    assert resident_bytes() - before < 60 * MIB
    assert len(living) == 20


def test_where_there_is_no_such_library_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    libc_function.cache_clear()
    GiveBack().on_step_end()
    libc_function.cache_clear()
