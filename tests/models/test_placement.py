"""What is settled before a device's libraries begin."""

import os
import subprocess
import sys

import pytest

from workbench.config.model import Device
from workbench.models.placement import ENVIRONMENT, torch_device

PRODUCTS = """
import resource, sys, torch
from workbench.config.model import Device
from workbench.models.placement import torch_device
if sys.argv[1] == "told":
    torch_device(Device.cpu)
weight = torch.zeros(576, 64, dtype=torch.bfloat16)
torch.zeros(2000, 576, dtype=torch.bfloat16) @ weight
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for rows in range(500, 1500):
    torch.zeros(rows, 576, dtype=torch.bfloat16) @ weight
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def growth(how):
    """Kilobytes that a thousand products of different lengths leave behind."""
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT["cpu"]}
    command = [sys.executable, "-c", PRODUCTS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def test_kernels_for_lengths_that_do_not_come_again_are_let_go():
    alone = growth("untold")
    if alone < 50_000:
        pytest.skip("this machine's products keep nothing")
    assert growth("told") < alone / 2


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    torch_device(Device.cpu)
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
