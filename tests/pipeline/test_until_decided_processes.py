"""compare.until=decided: killed and repeated, by two processes, and beside the verdict on all items."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from noisy_toy import TOY, noisy_toy

from workbench.config.compare import CompareConfig
from workbench.leaderboard.compare_two.command import compare_results
from workbench.shipped import PACKAGE

ITEMS = ("benchmark=[toy_choice_en]",)
ALPHA = 0.2
"""Chance of a false decision, large so that 300 items decide between weak models."""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
TORCHRUN += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]


def start(folder: Path, first: Path, second: Path, launcher=(sys.executable,)) -> subprocess.Popen[str]:
    words = [f"compare.a={first}", f"compare.b={second}", "compare.until=decided", *ITEMS]
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*launcher, "-m", "workbench", "recipe=compare", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"},
    )


def decisions(folder: Path, *how, **more) -> bytes:
    """Run the command to its end, and return the bytes of compare.json."""
    process = start(folder, *how, **more)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    [path] = folder.glob("runs/*/compare.json")
    return path.read_bytes()


def num_kept(folder: Path) -> int:
    return sum(len(file.read_bytes().splitlines()) for file in folder.glob("runs/*/cache/*.jsonl"))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    """The toy model, one that hardly differs, one a little worse, and one that guesses."""
    folder = tmp_path_factory.mktemp("models")
    return [TOY, *(noisy_toy(folder / str(share), share) for share in (0.01, 0.3, 1.0))]


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_decides_the_same(models, tmp_path):
    expected = decisions(tmp_path / "whole", models[0], models[1])
    total = num_kept(tmp_path / "whole")
    for share in (0.1, 0.4, 0.8):
        process = start(tmp_path / "cut", models[0], models[1])
        while num_kept(tmp_path / "cut") < share * total and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=60)
        kept = num_kept(tmp_path / "cut")
        assert kept >= share * total - 1
    assert decisions(tmp_path / "cut", models[0], models[1]) == expected
    assert num_kept(tmp_path / "cut") == total


@pytest.mark.slow
def test_two_processes_decide_as_one_does(models, tmp_path):
    one = decisions(tmp_path / "one", models[0], models[2])
    two = decisions(tmp_path / "two", models[0], models[2], launcher=TORCHRUN)
    assert one == two and json.loads(one)["decisions"][0]["num_asked"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("second", [1, 2, 3])
def test_a_decision_is_never_the_opposite_of_the_verdict_on_all_items(run, models, second):
    sides = []
    for name, path in (("a", models[0]), ("b", models[second])):
        folder = run("evaluate", f"model.path={path}", f"run_dir={name}", *ITEMS)
        sides.append(str(folder.path / "predictions" / "base"))
    [row] = compare_results(CompareConfig(a=sides[0], b=sides[1], alpha=ALPHA)).rows
    opposite = {"better": "lower", "worse": "higher"}.get(row.verdict)
    decided = set()
    for seed in range(8):
        words = (f"compare.a={models[0]}", f"compare.b={models[second]}", f"compare.seed={seed}")
        words += (f"compare.alpha={ALPHA}",)
        folder = run("compare", *words, "compare.until=decided", "run_dir=two", *ITEMS)
        [found] = json.loads((folder.path / "compare.json").read_text())["decisions"]
        assert found["decision"] != opposite
        decided.add(found["decision"])
    assert second < 3 or (row.verdict == "worse" and "lower" in decided)
