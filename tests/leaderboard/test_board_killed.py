"""The whole board, killed at ten moments and repeated, and written by two commands at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli import PACKAGE
from workbench.leaderboard.board_cache import DIGESTS, INDEX, RESULTS

sys.path.append(str(Path(__file__).parent / "imports"))
from imported_files import ppl_entry, sample, write_compass, write_harness  # noqa: E402
from leaderboard_runs import Spec, write_run  # noqa: E402

FORKS = """
import os, signal, sys
from pathlib import Path
from workbench.cli import main
import workbench.pipeline.run
def die_at(last, counted):
    moments = []
    def count(event, arguments):
        names = ("tempfile.mkstemp", "os.rename", "os.remove")
        if event in names and "runs" in Path(os.fsdecode(arguments[0])).parts:
            moments.append(event)
            os.pwrite(counted, str(len(moments)).encode(), 0)
            if len(moments) == last:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
for line in sys.stdin:
    last, folder = line.split()
    counted = os.open(f"{folder}/moments", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv[1:] = ["recipe=leaderboard"]
        die_at(int(last), counted)
        main()
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), os.pread(counted, 9, 0).decode() or 0, flush=True)
"""
"""Runs the command in a folder, for each line of a number n and the folder, in a fork of this process.

It is killed before it makes, renames or deletes its n-th file in `runs`; with 0 it lives. Its exit status
and the number of such moments are printed.
"""


class Forks:
    """A process that has imported the program, and forks for each command."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"},
        )

    def run(self, folder: Path, moment: int = 0) -> tuple[int, int]:
        """Return exit status and number of moments of the command in a folder, killed at a moment."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(moment, folder, file=self.process.stdin, flush=True)
        status, moments = self.process.stdout.readline().split()
        return int(status), int(moments)


@pytest.fixture(scope="module")
def forks():
    forks = Forks()
    yield forks
    _, errors = forks.process.communicate(timeout=60)
    assert errors == ""


def add_results(runs: Path) -> None:
    write_run(runs / "second", [Spec(right={"base": 0.3, "adapter": 0.5}), Spec(name="other", language="en")])
    write_harness(runs / "harness", {"quiz": [sample(n, float(n % 3 > 0)) for n in range(40)]})
    write_compass(runs / "compass", {"quiz": [ppl_entry(n, n % 2) for n in range(40)]})
    (runs / "odd").mkdir()
    (runs / "odd" / "results.json").write_text("{")


@pytest.fixture(scope="module")
def boards(tmp_path_factory, forks) -> tuple[Path, Path]:
    """A folder with an older board beside newer results, and one with the board of these results."""
    folders = [tmp_path_factory.mktemp(name) for name in ("older", "newer")]
    for folder in folders:
        write_run(folder / "runs" / "first", [Spec(), Spec(name="other", language="en")])
    add_results(folders[1] / "runs")
    for folder in folders:
        assert forks.run(folder)[0] == 0
    add_results(folders[0] / "runs")
    return folders[0], folders[1]


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below `runs`, but those that processes lock, and what is kept for the next board."""
    files = sorted(path for path in (folder / "runs").rglob("*") if path.is_file())
    files = [path for path in files if path.suffix != ".lock" and path.name not in (INDEX, DIGESTS, RESULTS)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_board_killed_at_ten_moments_has_whole_files_and_ends_with_the_same_bytes(boards, forks, tmp_path):
    older, newer = contents(boards[0]), contents(boards[1])
    assert {"runs/leaderboard.html", "runs/leaderboard.csv", "runs/items.parquet"} <= older.keys()
    assert older["runs/leaderboard.html"] != newer["runs/leaderboard.html"]
    shutil.copytree(boards[0], tmp_path / "counted")
    status, num_moments = forks.run(tmp_path / "counted")
    assert status == 0 and num_moments >= 20
    shutil.copytree(boards[0], tmp_path / "cut")
    stages = set()
    for number in range(10):
        status, _ = forks.run(tmp_path / "cut", 1 + number * (num_moments - 1) // 9)
        assert status in (-signal.SIGKILL, 0)
        found = contents(tmp_path / "cut")
        whole = {name: data for name, data in found.items() if not Path(name).name.startswith(".")}
        assert all(data in (older.get(name), newer.get(name)) for name, data in whole.items())
        stages.add(sum(data == newer.get(name) != older.get(name) for name, data in whole.items()))
    assert len(stages) >= 5
    assert forks.run(tmp_path / "cut")[0] == 0
    assert contents(tmp_path / "cut") == newer


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "workbench", "recipe=leaderboard", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"},
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, errors = process.communicate(timeout=600)
    return process.returncode, said, errors


@pytest.mark.slow
def test_two_commands_at_once_lose_nothing(boards, tmp_path):
    shutil.copytree(boards[0], tmp_path / "both")
    processes = [start(tmp_path / "both") for _ in range(2)]
    for code, said, errors in map(ended, processes):
        assert (code, errors) == (0, "") and "page: runs/leaderboard.html" in said
    assert contents(tmp_path / "both") == contents(boards[1])


@pytest.mark.slow
def test_two_commands_that_score_the_same_models_at_once_leave_each_scored_and_none_failed(tmp_path):
    base = str(PACKAGE / "toy" / "base")
    models = [base, {"path": base, "quantization": "nf4"}, {"path": base, "quantization": "int8"}]
    (tmp_path / "models.yaml").write_text(json.dumps(models))
    items = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=40")
    processes = [start(tmp_path, "leaderboard.models=models.yaml", *items) for _ in range(2)]
    for code, _, errors in map(ended, processes):
        assert (code, errors) == (0, "")
    assert not list((tmp_path / "runs").glob("*/failure.json"))
    found = json.loads((tmp_path / "runs" / "leaderboard.json").read_text())
    assert len(found["models"]) == 3 and not any(model["remarks"] for model in found["models"])
