"""What the process holds after tensors are gone."""

import os
import subprocess
import sys

import pytest

from workbench.machine import libc_function
from workbench.training.memory_release import KERNEL_CACHES, ReleaseMemory, keep_few_kernels

MIB = 1 << 20
glibc = pytest.mark.skipif(libc_function("malloc_trim") is None, reason="not the GNU C library")


HOLES = """
import sys
import torch
from workbench.machine import resident_bytes
from workbench.training.memory_release import ReleaseMemory
MIB = 1 << 20
large = torch.ones(30 * MIB // 4)  # freed, it makes the C library keep smaller blocks on its heap
del large
before = resident_bytes()
tensors = [torch.ones(MIB // 4) for _ in range(200)]
full = resident_bytes() - before
living = tensors[::10]
del tensors
with_holes = resident_bytes() - before
getattr(ReleaseMemory(), sys.argv[1])()
print(full, with_holes, resident_bytes() - before)
"""


@glibc
@pytest.mark.parametrize("event", ["on_train_begin", "on_step_end"])
def test_the_holes_between_living_tensors_go_back_before_the_first_step_and_after_each(event):
    """Measured in a process of its own: the holes that other tests left would take the tensors in."""
    command = [sys.executable, "-c", HOLES, event]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    full, with_holes, returned = map(int, printed.split())
    assert full > 150 * MIB
    assert with_holes > 100 * MIB
    assert returned < 60 * MIB


def test_where_there_is_no_such_library_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    libc_function.cache_clear()
    ReleaseMemory().on_step_end()
    libc_function.cache_clear()


PRODUCTS = """
import sys, torch
from workbench.machine import resident_bytes
from workbench.training.memory_release import keep_few_kernels
if sys.argv[1] == "few":
    keep_few_kernels()
weight = torch.zeros(576, 64, dtype=torch.bfloat16)
torch.zeros(2000, 576, dtype=torch.bfloat16) @ weight
before = resident_bytes()
for rows in range(500, 1500):
    torch.zeros(rows, 576, dtype=torch.bfloat16) @ weight
print(resident_bytes() - before)
"""


def growth(how):
    """Bytes that a thousand products of different lengths leave behind, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in KERNEL_CACHES}
    command = [sys.executable, "-c", PRODUCTS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


@glibc
def test_kernels_for_lengths_that_do_not_come_again_are_let_go():
    alone = growth("all")
    if alone < 50 * MIB:
        pytest.skip("this machine's products keep nothing")
    assert growth("few") < alone / 2


def test_how_many_kernels_the_user_wants_stays(monkeypatch):
    for name in KERNEL_CACHES:
        monkeypatch.setenv(name, "7")
    keep_few_kernels()
    assert [os.environ[name] for name in KERNEL_CACHES] == ["7", "7"]
