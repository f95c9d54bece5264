"""What run.json says of the command, the time and the program that made a step's files."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from workbench.made_by import checkout_commit, made_by
from workbench.run_record import RunRecord


def git(folder, *words):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    line = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder


@pytest.mark.parametrize("change", [(), ("pack-refs", "--all"), ("checkout", "-q", "--detach")])
def test_the_commit_of_a_checkout_is_gits(change, checkout):
    if change:
        git(checkout, *change)
    checkout_commit.cache_clear()
    assert checkout_commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_the_commit_of_a_worktree_is_gits(checkout, tmp_path):
    git(checkout, "worktree", "add", "-q", str(tmp_path / "other"), "-b", "other")
    assert checkout_commit(tmp_path / "other") == git(checkout, "rev-parse", "other")


def test_a_folder_without_git_has_no_commit(tmp_path):
    assert checkout_commit(tmp_path) == ""


def test_the_command_is_as_it_was_typed(monkeypatch):
    monkeypatch.setattr("workbench.made_by._typed", [])
    monkeypatch.setattr(sys, "argv", ["/x/workbench/__main__.py", "recipe=sft", "benchmark=[a,b]"])
    assert made_by()["command"] == "python -m workbench recipe=sft 'benchmark=[a,b]'"


def test_a_finished_step_is_recorded_with_command_and_time(tmp_path):
    (tmp_path / "out").write_text("x")
    record = RunRecord(tmp_path / "run.json")
    record.finish("train", "0" * 64, Path(tmp_path / "out"), {})
    [(step, made)] = RunRecord(tmp_path / "run.json").values["made"].items()
    assert step == "train" and {"command", "date"} <= made.keys()
    assert abs((datetime.now(UTC) - datetime.fromisoformat(made["date"])).total_seconds()) < 60


def test_the_command_is_the_one_that_was_typed_and_not_what_hydra_is_given(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/workbench/__main__.py", "model.path='a b'", "hydra.run.dir=."])
    monkeypatch.setattr("workbench.made_by._typed", ["/x/workbench/__main__.py", "model.path=a b"])
    assert made_by()["command"] == "python -m workbench 'model.path=a b'"
