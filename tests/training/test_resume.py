import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.errors import ConfigError
from workbench.run_dir import read_json
from workbench.training.resume import (
    checkpoint_problem,
    newest_complete_name,
    newest_good_checkpoint,
    write_manifest,
)


def tried(folder, base, *options):
    """What interrupted.py found."""
    script = Path(__file__).with_name("interrupted.py")
    command = [sys.executable, str(script), str(folder), str(base), *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, base):
    return tried(tmp_path_factory.mktemp("interrupted"), base)


@pytest.mark.parametrize(("kind", "num_moments"), [("nf4", 5), ("int8", 1), ("classifier", 1)])
def test_a_training_killed_and_repeated_ends_with_the_same_bytes(interrupted, kind, num_moments):
    """Of the adapter and of the journal but for what is measured; both processes end as they should."""
    assert interrupted[kind] == {moment: [9, 0, True, True] for moment in interrupted[kind]}
    assert len(interrupted[kind]) == num_moments


@pytest.mark.slow
def test_a_training_killed_from_outside_at_twenty_random_moments_ends_with_the_same_bytes(tmp_path, base):
    found = tried(tmp_path, base, "random")["random"]
    assert found == [[-9, True, True]] * 20


def newest(folder):
    """The newest good checkpoint of the training "mine", whatever its files hold."""
    return newest_good_checkpoint(folder, "mine", lambda checkpoint: None)


@pytest.fixture
def checkpoints(tmp_path):
    """Three sealed checkpoints."""
    for step in (9, 90, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_text(f"of step {step}")
        shards = folder / f"global_step{step}"  # as DeepSpeed and FSDP write them
        shards.mkdir()
        (shards / "rank_0.pt").write_text(f"of step {step}")
        write_manifest(folder, step, "mine", {"tokens": step}, is_final=False)
    return tmp_path


def test_the_newest_checkpoint_is_the_one_with_most_steps(checkpoints):
    found = newest(checkpoints)
    assert (found.path.name, found.step, found.counters) == ("checkpoint-100", 100, {"tokens": 100})


def test_there_is_no_checkpoint_at_the_beginning(tmp_path):
    assert newest(tmp_path / "checkpoints") is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "weights").write_text("of step 10x"), "weights is damaged"),
        (lambda folder: (folder / "weights").unlink(), "weights is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "is incomplete (no manifest)"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json is damaged"),
        (
            lambda folder: (folder / "global_step100" / "rank_0.pt").write_text("of step 99"),
            "global_step100/rank_0.pt is damaged",
        ),
        (lambda folder: shutil.rmtree(folder / "global_step100"), "global_step100/rank_0.pt is missing"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_named_and_left_out(checkpoints, caplog, damage, words):
    damage(checkpoints / "checkpoint-100")
    assert checkpoint_problem(checkpoints / "checkpoint-100", "mine") == words
    assert newest(checkpoints).step == 90
    assert f"checkpoint-100: {words}; deleted" in caplog.text
    assert not (checkpoints / "checkpoint-100").exists()


def test_a_whole_checkpoint_of_another_training_is_said_and_nothing_is_deleted(checkpoints):
    write_manifest(checkpoints / "checkpoint-90", 90, "other", {}, is_final=False)
    (checkpoints / "checkpoint-100" / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="checkpoint-90: belongs to .* or start over with force=true"):
        newest(checkpoints)
    assert len(list(checkpoints.iterdir())) == 3


def test_a_copy_that_the_user_made_is_no_checkpoint_and_stays(checkpoints):
    shutil.copytree(checkpoints / "checkpoint-9", checkpoints / "checkpoint-9-mine")
    (checkpoints / "checkpoint-9-mine" / "weights").write_text("changed")
    (checkpoints / "checkpoint-notes.txt").write_text("mine")
    assert newest(checkpoints).step == 100
    assert newest_complete_name(checkpoints) == "checkpoint-100"
    assert (checkpoints / "checkpoint-9-mine").is_dir()


def test_a_manifest_lists_every_file_with_its_checksum(checkpoints):
    manifest = read_json(checkpoints / "checkpoint-9" / "manifest.json")
    assert list(manifest["files"]) == ["global_step9/rank_0.pt", "weights"]
    assert len(manifest["files"]["weights"]) == 64
    assert manifest["schema_version"] == 1
