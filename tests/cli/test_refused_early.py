"""What the command line says, and leaves undone, before a run starts."""

from pathlib import Path

import pytest

from workbench.cli.arguments import given_twice


@pytest.mark.parametrize("folder", ["runs", "elsewhere"])
def test_a_sweep_that_is_refused_leaves_no_folder(command, folder):
    Path("recipes").mkdir()
    text = "defaults:\n- override /model: default\nsteps: [train]\n"
    Path("recipes/mine.yaml").write_text(f"{text}hydra:\n  sweep:\n    dir: {folder}\n")
    assert "at least one run of the sweep failed" in command("-m", "recipe=mine", "model.path=nowhere")
    assert sorted(path.name for path in Path().iterdir()) == ["recipes"]


def test_a_key_with_two_values_is_said_with_both():
    words = ["seed=1", "train.max_steps=10", "++seed=2", "train.max_steps=10", "recipe=sft"]
    assert given_twice(words) == ["seed: given 2 times, 1 then 2 (the last one counts)"]


def test_a_run_that_is_not_there_is_answered_with_the_near_ones(command):
    for name in ("sft-1234abcd", "sft-99999999", "other"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "config.yaml").write_text("model: {}\n")
    Path("runs", "sft-empty").mkdir()
    said = command("recipe=export", "run_dir=runs/sft")
    assert said.endswith("no config.yaml (did you mean runs/sft-1234abcd or runs/sft-99999999?)"), said
    assert command("recipe=export", "run_dir=runs/othr").endswith("no config.yaml (did you mean runs/other?)")
    assert "name the folder of a run, or model.path" in command("recipe=export", "run_dir=elsewhere/x")
