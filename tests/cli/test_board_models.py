"""A list of models becomes runs: named, grouped by base, checked, and one failure stops no other."""

import json
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from workbench.cli.board_models import chosen, of_entry, read_entries
from workbench.errors import ConfigError
from workbench.shipped import PACKAGE

LIST = """
- a/tiny
- {path: a/tiny, quantization: nf4}
- {path: b/other.gguf}
- {path: a/tiny, adapter: runs/zh/adapter, dtype: auto}
- {path: a/tiny, adapter: lora, name: mine}
- {path: a/tiny}
"""


def workbench(*arguments, cwd):
    """Run `python -m workbench` in a folder of its own."""
    command = [sys.executable, "-m", "workbench", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def entries(tmp_path, text):
    (tmp_path / "models.yaml").write_text(text)
    return read_entries(tmp_path / "models.yaml")


def test_models_are_named_by_what_tells_them_apart_and_those_of_one_base_follow_each_other(tmp_path):
    found = entries(tmp_path, LIST)
    assert [entry.name for entry in found] == ["tiny", "tiny-2", "tiny-zh", "mine", "tiny-nf4", "other"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path: a", "not a list of 1 to"),
        ("[]", "not a list of 1 to"),
        ("- {path: a, quantisation: nf4}", "entry 1: Key 'quantisation' not in 'ModelEntry'"),
        ("- {path: a, quantization: nf5}", "entry 1: quantization: unknown option 'nf5' (known: none,"),
        ("- a\n- {name: x}", "entry 2: "),
        ("- [a]", "entry 1: neither a path nor a mapping"),
        ("- {path: a, name: ../x}", "entry 1: name: '../x' can't be a file name"),
        ("- {path: a, name: x}\n- {path: b, name: x}", "two models are called 'x'"),
        ("- {path: a", "not YAML"),
    ],
)
def test_a_list_that_is_none_is_one_line(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        entries(tmp_path, text)
    assert words in str(caught.value) and "models.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_path_without_a_name_is_named_after_its_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert [entry.name for entry in entries(tmp_path, "- .\n- ../mine/x/..")] == ["mine", "mine-2"]


def test_jobs_share_the_models_by_their_names(tmp_path):
    found = entries(tmp_path, LIST)
    assert [entry.name for entry in chosen(found, ["other", "mine"])] == ["mine", "other"]
    with pytest.raises(ConfigError, match="no model 'x' .known: tiny, tiny-2"):
        chosen(found, ["x"])


def test_a_name_that_is_given_is_the_models_name_on_the_board(tmp_path):
    parts = ("model", "quantization", "adapter", "evaluate", "leaderboard")
    composed = OmegaConf.create({part: {"name": None} for part in parts})
    made = {
        entry.name: of_entry(composed, entry, tmp_path).evaluate.name for entry in entries(tmp_path, LIST)
    }
    assert made.pop("mine") == "mine" and set(made.values()) == {None}


def test_one_command_scores_many_models_and_records_those_that_fail(tmp_path):
    base = PACKAGE / "toy/base"
    (tmp_path / "models.yaml").write_text(
        json.dumps(
            [str(base), {"path": str(base), "quantization": "nf4"}, {"path": "nowhere", "name": "lost"}]
        )
    )
    chosen_items = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=12")
    command = ("recipe=leaderboard", "leaderboard.models=models.yaml", *chosen_items)
    result = workbench(*command, cwd=tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "error: lost: model.path: there is no file or folder 'nowhere'" in result.stdout
    assert "1 of the models could not be scored: lost" in result.stderr
    assert "nowhere" in json.loads((tmp_path / "runs/lost/failure.json").read_text())["reason"]
    scores = [
        json.loads((tmp_path / f"runs/{name}/results.json").read_text()) for name in ("base", "base-nf4")
    ]
    assert [len(result["scores"]) for result in scores] == [1, 1]
    assert [list(result["models"].values())[0]["quantization"] for result in scores] == ["none", "nf4"]
    again = workbench(*command, cwd=tmp_path)
    assert again.stdout.count("already done") == 2
    assert "error: lost: model.path: there is no file or folder 'nowhere'" in again.stdout


def test_an_entry_whose_name_is_another_runs_folder_is_told_to_take_another_name(tmp_path, command, capsys):
    words = ("recipe=leaderboard", "leaderboard.models=models.yaml", "benchmark=[toy_choice_en]")
    entry = {"path": str(PACKAGE / "toy/base"), "name": "mine"}
    for quantization in ("none", "nf4"):
        (tmp_path / "models.yaml").write_text(json.dumps([{**entry, "quantization": quantization}]))
        last = command(*words, "benchmarks.toy_choice_en.limit=4")
    assert "could not be scored: mine" in last
    said = capsys.readouterr().out
    assert "holds another run" in said and "give the entry another name, as in {name: NAME}" in said
    assert "run_dir, or none" not in said


def test_jobs_of_a_sweep_score_their_models_and_land_on_one_board(tmp_path):
    base = PACKAGE / "toy/base"
    (tmp_path / "models.yaml").write_text(json.dumps([str(base), {"path": str(base), "quantization": "nf4"}]))
    items = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=12")
    jobs = "leaderboard.entries=[base],[base-nf4]"
    result = workbench(
        "-m", "recipe=leaderboard", "leaderboard.models=models.yaml", jobs, *items, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    board = json.loads((tmp_path / "runs/leaderboard.json").read_text())
    assert {model["name"] for model in board["models"]} == {"toy/base", "toy/base · nf4"}
