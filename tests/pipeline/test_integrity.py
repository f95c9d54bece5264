"""What a step left is looked at again: changed, missing or replaced parts are named and made again."""

import json
import os
import shutil
from pathlib import Path

import pytest

from workbench.errors import ConfigError, DataError
from workbench.evaluation.item_interviewer import ItemInterviewer
from workbench.evaluation.records import read_results
from workbench.run_dir import RunDir, read_json, write_json
from workbench.run_record import RunRecord

SHORT = ("train.max_steps=4", "train.save_steps=2", "train.logging_steps=1", "data.limit=300")
TWO = (
    "benchmark=[toy_choice_en,toy_choice_zh]",
    *(f"benchmarks.toy_choice_{x}.limit=6" for x in ("en", "zh")),
)
ONE = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=6", "steps=[train,evaluate]")


def said(caplog) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


def values(folder: RunDir) -> dict[tuple[str, str], float]:
    return {(score.model, score.benchmark): score.value for score in read_results(folder.results_json)[1]}


@pytest.fixture(scope="module")
def trained_once(run_once):
    return run_once(lambda folder: None, "quickstart", *SHORT, "steps=[train]")


@pytest.fixture
def trained(trained_once, tmp_path):
    """A copy of a run that was only trained."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    return RunDir(Path("runs/quickstart"))


def test_an_edited_score_is_made_again_and_a_lost_proof_too(run, caplog, tmp_path):
    folder = run("quickstart", *SHORT, *TWO)
    expected, cells = values(folder), read_json(tmp_path / "runs" / "leaderboard.json")["cells"]
    content = read_json(folder.results_json)
    content["scores"][0]["value"] = 0.987654
    write_json(folder.results_json, content)
    run("leaderboard")
    text = (tmp_path / "runs" / "leaderboard.html").read_text()
    assert "98.8" not in text and "were changed since they were written, and are left out" in text

    run("quickstart", *SHORT, *TWO)
    model, benchmark = content["scores"][0]["model"], content["scores"][0]["benchmark"]
    words = (
        f"the scores of {model} on {benchmark} were changed since they were written, so it is scored again"
    )
    assert words in said(caplog)
    assert values(folder) == expected
    assert read_json(tmp_path / "runs" / "leaderboard.json")["cells"] == cells
    assert read_json(folder.run_json)["evaluate"][model][benchmark]["num_asked"] == 0, "its answers were kept"

    for damage in (lambda text: text[: len(text) // 2], lambda text: None):
        damaged = damage(folder.merge_report.read_text())
        folder.merge_report.unlink() if damaged is None else folder.merge_report.write_text(damaged)
        run("quickstart", *SHORT, *TWO, "steps=[evaluate,leaderboard]")
        assert "report was changed since the merge step" in said(caplog)
        board = (tmp_path / "runs" / "leaderboard.json").read_text()
        assert "the merge is not proven" in board and "The logits of the merged model" not in board
        run("quickstart", *SHORT, *TWO, "steps=[merge,evaluate,leaderboard]")
        assert "merge makes it again" in said(caplog) and "evaluate merged: already done" in said(caplog)
        assert "The logits of the merged model" in (tmp_path / "runs" / "leaderboard.json").read_text()
    assert values(folder) == expected


def test_scores_of_an_adapter_that_was_trained_anew_are_left_out_until_it_is_scored(run, caplog, tmp_path):
    folder = run("quickstart", *SHORT, *ONE, "steps=[train,merge,evaluate,leaderboard]")
    board, before = tmp_path / "runs" / "leaderboard.md", values(folder)
    assert "earlier training" not in board.read_text()
    again = ("quickstart", *SHORT, *ONE, "train.learning_rate=1e-3")
    run(*again, "force=true", "steps=[train,leaderboard]")
    for model in ("adapter", "merged"):
        assert f"the scores of {model} are of an earlier training or merge" in board.read_text()
    assert "the scores of base" not in board.read_text() and values(folder) == before

    run(*again, "steps=[merge,leaderboard]")
    assert "the scores of merged are of an earlier training or merge" in board.read_text()
    run(*again, "steps=[evaluate,leaderboard]")
    assert "earlier training" not in board.read_text() and values(folder).keys() == before.keys()


def test_a_moved_and_a_copied_run_folder_is_as_sound_as_before(run, caplog, tmp_path):
    folder = run("quickstart", *SHORT, *ONE)
    shutil.copytree(folder.path, tmp_path / "copies" / "copy")
    folder.path.rename(tmp_path / "runs" / "renamed")
    for path in ("copies/copy", "runs/renamed"):
        run("quickstart", *SHORT, *ONE, f"run_dir={tmp_path / path}")
        assert said(caplog).count("nothing has changed") == 3 and "not as" not in said(caplog)
    board = run("leaderboard", "leaderboard.folder=copies")
    assert board and 'remarks": []' in (tmp_path / "copies" / "leaderboard.json").read_text()
    (tmp_path / "copies" / "copy" / "run.json").unlink()
    run("leaderboard", "leaderboard.folder=copies")
    text = (tmp_path / "copies" / "leaderboard.md").read_text()
    assert "not verified: its scores have no checksums" in text and "toy" in text


def test_what_training_wrote_down_is_made_again_from_the_checkpoint(run, trained, caplog):
    folder = trained
    paths = [folder.path / name for name in ("train.json", "train.jsonl", "loss.svg")]
    contents, weights = [path.read_bytes() for path in paths], folder.adapter / "adapter_model.safetensors"
    before = weights.read_bytes()
    for damage in (lambda content: content[:-50], lambda content: b"\xff\x00{{{\n", lambda content: None):
        for path, content in zip(paths, contents, strict=True):
            damaged = damage(content)
            path.unlink() if damaged is None else path.write_bytes(damaged)
        run("quickstart", *SHORT, "steps=[train]")
        assert "train.json: " in said(caplog) and "all 4 steps are done" in said(caplog)
        assert [path.read_bytes() for path in paths] == contents and weights.read_bytes() == before


def test_benchmarks_that_are_done_are_on_disk_whatever_ends_the_run(run, caplog, monkeypatch):
    evaluate = ItemInterviewer.evaluate

    def fails(self, benchmark, lm, config, cache, model_name):
        if (model_name, benchmark.name) == ("adapter", "toy_choice_zh"):
            raise ZeroDivisionError("something that nobody thought of")
        return evaluate(self, benchmark, lm, config, cache, model_name)

    monkeypatch.setattr(ItemInterviewer, "evaluate", fails)
    command = ("quickstart", *SHORT, *TWO, "steps=[train,evaluate]")
    with pytest.raises(ZeroDivisionError):
        run(*command)
    monkeypatch.setattr(ItemInterviewer, "evaluate", evaluate)
    folder = RunDir(Path("runs/quickstart"))
    done = [("base", "toy_choice_en"), ("base", "toy_choice_zh"), ("adapter", "toy_choice_en")]
    assert sorted(values(folder)) == sorted(done)
    assert all(folder.predictions(*key).is_file() for key in done)
    assert all(f"evaluate/{model}/{name}" in read_json(folder.run_json)["steps"] for model, name in done)
    run(*command)
    assert "evaluate base: already done" in said(caplog) and len(values(folder)) == 4


def test_a_record_that_was_changed_or_is_odd_is_refused_in_one_line(run, tmp_path):
    folder = RunDir(tmp_path / "runs" / "quickstart")
    folder.path.mkdir(parents=True)
    record = RunRecord(folder.run_json)
    (folder.path / "made").write_text("x")
    record.finish("train", "inputs", folder.path / "made", {"seconds": 1.5})
    sound = folder.run_json.read_text()
    assert RunRecord(folder.run_json).is_finished("train", "inputs", folder.path / "made")
    for damaged in (
        sound.replace("1.5", "2.5"),
        sound.replace('"inputs": "inputs"', '"inputs": "others"'),
        sound[:-20],
        "[" * 100_000,
        '{"steps": {"train": {}}}',
        '{"steps": {"train": {"inputs": 1, "output": "x"}}}',
        '{"steps": {"train": {"inputs": "1", "output": "x", "files": [1]}}}',
        '{"steps": []}',
        "null",
    ):
        folder.run_json.write_text(damaged)
        with pytest.raises(DataError, match=r"run.json: not the record of a run, .* steps are repeated\)"):
            run("quickstart", *SHORT, "steps=[train]")
    folder.run_json.unlink()
    folder.run_json.mkdir()
    with pytest.raises(DataError, match=r"run.json: is a folder where a file must be written"):
        run("quickstart", *SHORT, "steps=[train]")


def test_a_lock_that_is_a_link_is_refused_and_its_target_left_as_it_was(run, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    run_dir = tmp_path / "runs" / "quickstart"
    run_dir.mkdir(parents=True)
    (run_dir / ".lock").symlink_to(outside)
    with pytest.raises(DataError, match=r"\.lock: is a link where a file must be written"):
        run("quickstart", *SHORT, "steps=[train]")
    assert outside.read_text() == "mine"
    (run_dir / ".lock").unlink()
    (run_dir / ".lock").write_text("mine, too")
    with pytest.raises(ConfigError, match="predict.input"):
        run("quickstart", *SHORT, "steps=[predict]")
    assert (run_dir / ".lock").read_text() == "mine, too"


@pytest.mark.parametrize("name", ["checkpoints", "cache", "tensorboard", "predictions", "predictions/base"])
def test_a_folder_of_a_run_that_is_a_link_is_refused_and_nothing_written_there(run, tmp_path, name):
    outside = tmp_path / "outside"
    (outside / "checkpoint-4").mkdir(parents=True)
    link = tmp_path / "runs" / "quickstart" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    (tmp_path / "runs" / "quickstart" / "config.yaml").touch()
    with pytest.raises(ConfigError, match=f"{name}: a link to '.*outside', whose files would be written"):
        run("quickstart", *SHORT, "steps=[train]", "force=true")
    assert list(outside.rglob("*")) == [outside / "checkpoint-4"]


def test_checkpoints_that_are_links_or_files_are_named_and_trained_past(run, trained, caplog, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    folder = trained
    weights = (folder.adapter / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(folder.adapter)
    for step in (2, 4):
        shutil.rmtree(folder.checkpoints / f"checkpoint-{step}")
    (folder.checkpoints / "checkpoint-2").write_text("a file")
    (folder.checkpoints / "checkpoint-4").symlink_to(outside)
    (folder.path / "train.jsonl").unlink()
    os.symlink(outside / "mine.txt", folder.path / "train.jsonl")
    run("quickstart", *SHORT, "steps=[train]")
    assert "checkpoint-4: is a link, not a checkpoint of this run; deleted" in said(caplog)
    assert "checkpoint-2: is a file, not a checkpoint; deleted" in said(caplog)
    assert (folder.adapter / "adapter_model.safetensors").read_bytes() == weights
    assert [path.name for path in outside.iterdir()] == ["mine.txt"] and (
        outside / "mine.txt"
    ).read_text() == "mine"
    assert len(json.loads((folder.checkpoints / "checkpoint-4" / "manifest.json").read_text())["files"]) > 3
