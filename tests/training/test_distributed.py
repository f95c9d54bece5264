import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import KINDS
from safetensors.torch import load_file

from workbench.run_dir import file_fingerprint

SCRIPT = Path(__file__).with_name("distributed.py")
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
TORCHRUN += ["--rdzv-endpoint=localhost:0"]


def launched(*arguments, processes=2):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    start = TORCHRUN if processes == 2 else []
    command = [sys.executable, *start, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, base):
    """The same trainings by one process and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder, processes in ((one, 1), (two, 2)):
        done = launched(folder, base, processes=processes)
        assert done.returncode == 0, done.stderr
    return one, two


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_reach_the_adapter_of_one(folders, kind):
    """With dropout, a last step that has no batch for the second process, and rows of unequal length."""
    one, two = (load_file(folder / kind / "adapter" / "adapter_model.safetensors") for folder in folders)
    assert one.keys() == two.keys()
    largest = max((one[name] - two[name]).abs().max().item() for name in one)
    assert largest < 1e-6
    assert max(tensor.abs().max().item() for name, tensor in one.items() if "lora_B" in name) > 1e-3


def test_every_process_reports_what_one_process_does(folders):
    one, first, second = (
        json.loads((folder / name).read_text())
        for folder, name in ((folders[0], "0.json"), (folders[1], "0.json"), (folders[1], "1.json"))
    )
    assert first == second
    for kind in KINDS:
        assert first[kind] == pytest.approx(one[kind], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["nf4", "fsdp"])
def test_when_one_process_is_killed_all_go_on_from_the_newest_checkpoint(folders, tmp_path, base, stopped):
    killed = launched(tmp_path, base, stopped, 1, 8)
    assert killed.returncode != 0
    assert not (tmp_path / stopped / "adapter").exists()
    lines = (tmp_path / stopped / "train.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert max(steps) < 8
    repeated = launched(tmp_path, base)
    assert repeated.returncode == 0, repeated.stderr
    for kind in KINDS:
        assert file_fingerprint(tmp_path / kind / "adapter") == file_fingerprint(
            folders[1] / kind / "adapter"
        )
