"""Rows that are never all in memory: the same training, also after an interruption."""

import json
import shutil

import pytest

from workbench.data import streaming
from workbench.errors import ConfigError, DataError
from workbench.run_dir import read_json

SHORT = ("train.max_steps=6", "train.save_steps=2", "train.per_device_batch_size=8", "steps=[train]")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", 37)


@pytest.fixture
def rows(tmp_path):
    """Three hundred rows of different lengths, a few of them twice."""
    made = [{"instruction": f"add {n}", "output": "yes " * (n % 9 + 1)} for n in range(290)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [*made, *made[:10]])))
    return f"data.path={path}"


def test_streamed_rows_train_to_the_same_bytes_as_rows_in_memory(run, rows):
    first = run("quickstart", rows, *SHORT, "run_dir=memory")
    second = run("quickstart", rows, *SHORT, "run_dir=streamed", "data.streaming=true")
    assert (first.adapter / WEIGHTS).read_bytes() == (second.adapter / WEIGHTS).read_bytes()
    assert read_json(first.train_json)["data"] == read_json(second.train_json)["data"]


def test_a_streamed_training_goes_on_with_the_same_bytes(run, rows):
    how = ("data.streaming=true", "data.validation_fraction=0.1", "data.packing=true")
    folder = run("quickstart", rows, *SHORT, *how)
    expected = (folder.adapter / WEIGHTS).read_bytes()
    assert read_json(folder.run_json)["train"]["validation_loss"] > 0
    for path in (folder.adapter, folder.cache, folder.checkpoints / "checkpoint-6"):
        shutil.rmtree(path)
    run("quickstart", rows, *SHORT, *how)
    assert read_json(folder.run_json)["train"]["resumed_from"] == 4
    assert (folder.adapter / WEIGHTS).read_bytes() == expected


def test_equal_rows_come_to_one_side_and_what_is_not_compared_is_said(run, rows, caplog):
    folder = run("quickstart", rows, *SHORT, "data.streaming=true", "data.validation_fraction=0.3")
    assert "data.streaming: held-out rows are recognized by their last prompt only" in caplog.text
    found = {}
    for name in ("train", "validation"):
        part = streaming.datasets.Dataset.from_file(str(folder.cache / "rows-0" / f"{name}.arrow"))
        found[name] = {tuple(ids) for ids in part["input_ids"]}
    assert 50 < len(found["validation"]) < 130
    assert not found["train"] & found["validation"]


def test_a_bad_row_far_behind_is_said_with_its_line(run, tmp_path):
    made = [json.dumps({"instruction": "a", "output": "b"})] * 1500
    (tmp_path / "rows.jsonl").write_text("\n".join([*made, "{broken"]))
    with pytest.raises(DataError, match="rows.jsonl:1501: malformed JSON"):
        run("quickstart", "data.path=rows.jsonl", "data.streaming=true", *SHORT)


def test_a_streamed_classifier_needs_its_classes_named(run):
    with pytest.raises(ConfigError, match="data.labels: not given, and data.streaming"):
        run("quickstart-classifier", "data.streaming=true", "data.labels=[]", *SHORT)
