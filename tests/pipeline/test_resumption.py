"""A training that is killed and repeated, as recipe=resume-check shows it."""

import os
import signal

import pytest
from transformers.utils.import_utils import is_flash_attn_2_available

from workbench.errors import TrainingError
from workbench.pipeline import resume_check
from workbench.run_dir import read_json

FLASH = pytest.mark.skipif(not is_flash_attn_2_available(), reason="flash-attn is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["resume-check", "quickstart-classifier"])
def test_a_killed_training_of_any_recipe_is_shown_to_end_with_the_same_bytes(run, caplog, recipe):
    folder = run(recipe, "steps=[resume_check]")
    assert "the same bytes" in caplog.text
    report = read_json(folder.path / "resume_check.json")
    assert report["same"] and 3 <= report["killed_at"] < 6 and len(report["weights"]) == 64
    assert not (folder.path / "resume-check").exists()


def other_weights(config, folder):
    """A training that forgets where it was."""
    return (str(folder.name), [])


def test_other_weights_are_an_error_that_says_which_kind(run, monkeypatch):
    monkeypatch.setattr(resume_check, "train_and_kill", lambda config, folder: 3)
    monkeypatch.setattr(resume_check, "train_in_process", other_weights)
    with pytest.raises(TrainingError, match="even two uninterrupted trainings end with different weights"):
        run("resume-check")
    monkeypatch.setattr(
        resume_check, "train_in_process", lambda config, folder: ("b" if folder.name == "killed" else "a", [])
    )
    with pytest.raises(TrainingError, match="the resumed training ends with other weights; both are in"):
        run("resume-check")


def killed(config, folder, errors):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_training_that_dies_is_not_taken_for_one_that_ended(run, monkeypatch):
    monkeypatch.setattr(resume_check, "train_alone", killed)
    with pytest.raises(TrainingError, match="resume_check: exit status -9"):
        run("resume-check")


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "xformers", pytest.param("flash_attention_2", marks=FLASH)])
@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_a_killed_training_on_a_gpu_ends_with_the_same_bytes(run, attention, quantization):
    options = [f"model.attention={attention}", f"quantization={quantization}", "model.dtype=bfloat16"]
    folder = run("resume-check", "model.device=cuda", *options)
    assert read_json(folder.path / "resume_check.json")["same"]
