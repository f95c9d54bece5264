"""What a process of the command line sets up before it loads PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import cli

POLICY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
PROGRAM = """
import os, sys
import workbench.cli
assert "torch" not in sys.modules  # which reads the policy when it is loaded
workbench.cli.set_up_process()
print(*(os.environ.get(name, "-") for name in sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, f"- {cli.SPINS}"),
        ({"GOMP_SPINCOUNT": "7"}, "- 7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "PASSIVE -"),
    ],
    ids=["none", "spins", "policy"],
)
def test_how_threads_wait_is_chosen_before_torch_is_loaded_unless_the_user_has(given, expected):
    kept = {name: value for name, value in os.environ.items() if name not in POLICY}
    environment = kept | given | {"PYTHONPATH": str(Path(cli.PACKAGE).parent)}
    command = [sys.executable, "-c", PROGRAM, *POLICY]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout.strip() == expected


@pytest.mark.parametrize(
    ("given", "shows_traceback"),
    [
        ({}, False),
        ({"HYDRA_FULL_ERROR": "1"}, True),
        ({cli.TRACEBACK: "0", "HYDRA_FULL_ERROR": "1"}, False),
        ({cli.TRACEBACK: "1", "HYDRA_FULL_ERROR": "1"}, True),
    ],
    ids=["none", "asked", "started by a run", "started by a run that was asked"],
)
def test_an_error_has_a_traceback_only_where_the_user_asks_for_one(tmp_path, given, shows_traceback):
    names = ("HYDRA_FULL_ERROR", cli.TRACEBACK)
    kept = {name: value for name, value in os.environ.items() if name not in names}
    environment = kept | given | {"PYTHONPATH": str(Path(cli.PACKAGE).parent)}
    command = [sys.executable, "-m", "workbench", "recipe=absent"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ended.returncode == 1 and ("Traceback" in ended.stderr) is shows_traceback, ended.stderr
