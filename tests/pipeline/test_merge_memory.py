"""The memory that a plan foresees for a merge, beside what the merge takes, in processes of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from toy_adapters import TOY, toy_adapter

from workbench.shipped import PACKAGE

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

RANK = 6144
"""The matrices of all layers take 107 MB, a fifth of what the merge takes."""
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MEASURED = """
import atexit
from workbench.machine import peak_resident_bytes
atexit.register(lambda: print("peak", peak_resident_bytes()))
from workbench.__main__ import main
main()
"""


def printed(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED, *arguments, f"model.path={TOY}", "merge.probe=false"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_merge_takes_the_memory_that_a_plan_foresees(tmp_path):
    toy_adapter(tmp_path / "adapter", 0, r=RANK, target_modules=LAYERS)
    merged = printed(tmp_path, "recipe=merge", "adapter.path=adapter", "run_dir=run")
    planned = printed(tmp_path, "recipe=plan", f"adapter.rank={RANK}", "data.max_length=64")
    gib = re.search(r"to merge: ([\d.]+)\s+(?:plan:\s+)?GiB at the peak", planned)
    peak = re.search(r"peak (\d+)", merged)
    assert gib and peak
    assert float(gib[1]) * 2**30 == pytest.approx(int(peak[1]), rel=0.07)
