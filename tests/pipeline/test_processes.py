"""A whole run by two processes, as torchrun starts them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.evaluation.records import read_results
from workbench.files import locked
from workbench.run_dir import RunDir
from workbench.shipped import PACKAGE

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
TORCHRUN += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m", "workbench"]
SHORT = ("train.max_steps=4", "benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=40")
SHORT += ("leaderboard.folder=.",)


def torchrun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_two_processes_go_through_a_run_as_one_does_and_only_the_first_speaks(tmp_path, run):
    done = torchrun("recipe=quickstart", *SHORT, "run_dir=two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in ("== train", "== merge", "== evaluate", "== leaderboard", "data: ", "page: "):
        assert done.stdout.count(line) == 1
    again = torchrun("recipe=quickstart", *SHORT, "run_dir=two", cwd=tmp_path)
    assert again.stdout.count("nothing has changed") == 5
    one = run("quickstart", *SHORT, "train.gradient_accumulation_steps=2", "run_dir=one")
    two = RunDir(tmp_path / "two")
    lines = [json.loads(folder.train_jsonl.read_text().splitlines()[-1]) for folder in (one, two)]
    assert lines[0]["tokens"] == lines[1]["tokens"]
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)
    scores = [{s.model: s.value for s in read_results(folder.results_json)[1]} for folder in (one, two)]
    assert scores[0] == scores[1] and len(scores[0]) == 3


@pytest.mark.slow
def test_a_mistake_is_said_once_whatever_the_number_of_processes(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{broken\n")
    done = torchrun("recipe=quickstart", "data.path=rows.jsonl", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("rows.jsonl:1: malformed JSON") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_another_number_of_processes_is_refused_and_costs_no_checkpoint(tmp_path, run):
    how = ("train.max_steps=4", "train.save_steps=2", "data.limit=40", "quantization=none", "steps=[train]")
    folder = run("quickstart", *how, "run_dir=one")
    shutil.rmtree(folder.adapter)
    before = {path: path.stat().st_mtime_ns for path in folder.checkpoints.rglob("*")}
    done = torchrun("recipe=quickstart", *how, "run_dir=one", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout.count("plan: 4 steps") == 1
    assert done.stderr.count("belongs to a training with other rows, settings or number of processes") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.checkpoints.rglob("*")} == before


@pytest.mark.slow
def test_two_processes_score_a_list_of_models_as_one_does_and_go_on_after_one_that_fails(tmp_path):
    base = str(PACKAGE / "toy" / "base")
    models = [base, {"path": "nowhere", "name": "lost"}, {"path": base, "quantization": "nf4"}]
    items = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=40", "evaluate.invariant=true")
    words = ("recipe=leaderboard", "leaderboard.models=models.yaml", *items)
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "models.yaml").write_text(json.dumps(models))
    alone = [sys.executable, "-m", "workbench", *words]
    one = subprocess.run(alone, cwd=tmp_path / "one", capture_output=True, text=True, env=environment)
    two = torchrun(*words, cwd=tmp_path / "two")
    for done in (one, two):
        assert done.returncode == 1 and done.stdout.count("error: lost: ") == 1
        assert done.stderr.count("1 of the models could not be scored: lost") == 1
    for name in ("base/results.json", "base-nf4/results.json", "lost/failure.json"):
        assert (tmp_path / "one/runs" / name).read_bytes() == (tmp_path / "two/runs" / name).read_bytes()
    again = torchrun(*words, cwd=tmp_path / "two")
    assert again.stdout.count("already done") == 2


@pytest.mark.slow
def test_a_folder_that_another_command_uses_is_waited_for_by_all_processes(tmp_path):
    (tmp_path / "models.yaml").write_text(json.dumps([str(PACKAGE / "toy" / "base")]))
    items = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=12")
    words = ("recipe=leaderboard", "leaderboard.models=models.yaml", *items)
    with locked(RunDir(tmp_path / "runs" / "base").lock, wait=True):
        process = subprocess.Popen(
            [*TORCHRUN, *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        assert any("another command is using its folder, so it comes last" in line for line in process.stdout)
        assert process.poll() is None
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert (tmp_path / "runs" / "base" / "results.json").is_file()
