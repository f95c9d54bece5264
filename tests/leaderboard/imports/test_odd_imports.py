"""Damaged, foreign and hostile files of other tools: each is named and skipped, and sound ones stay."""

import json
import os

import pytest
from imported_files import DATE, ppl_entry, sample, write_compass, write_harness

from workbench.leaderboard.imported_runs import collect_all

GOOD = json.dumps(sample(0, 1.0))
SAMPLES = f"samples_quiz_{DATE}.jsonl"


def without(key):
    return json.dumps({name: value for name, value in sample(0, 1.0).items() if name != key})


def changed(**values):
    return json.dumps(sample(0, 1.0) | values)


LINES = {
    "empty": "",
    "blank lines": "\n\n\n",
    "half a line": GOOD[: len(GOOD) // 2],
    "a list": "[1, 2]",
    "a number": "3",
    "text": "once upon a time",
    "nested too deeply": "[" * 100_000,
    "another tool": json.dumps({"prompt": "a", "completion": "b"}),
    "no number": without("doc_id"),
    "a number as text": changed(doc_id="0"),
    "a number that is true": changed(doc_id=True),
    "a negative number": changed(doc_id=-1),
    "no metrics": without("metrics"),
    "metrics as text": changed(metrics="acc"),
    "a metric without value": changed(metrics=["acc", "acc_norm"]),
    "a metric of another type": changed(metrics=[1]),
    "a score as text": changed(acc="1.0"),
    "no score": changed(acc=None),
    "a score as mapping": changed(acc={"value": 1}),
    "not a number": changed(acc=float("nan")),
    "infinite": changed(acc=float("inf")),
    "an infinite exponent": GOOD.replace('"acc": 1.0', '"acc": 1e999'),
    "a huge number": GOOD.replace('"acc": 1.0', '"acc": ' + "9" * 400),
    "no requests": without("arguments"),
    "empty requests": changed(arguments={}),
    "a request without texts": changed(arguments={"gen_args_0": {}}),
    "requests as text": changed(arguments="a"),
    "the same document twice": f"{GOOD}\n{GOOD}",
    "more documents than scored": f"{GOOD}\n{json.dumps(sample(1, 1.0))}",
}
RESULTS = {
    "empty results": "",
    "half a file": '{"results": {',
    "a list of results": "[]",
    "a number of results": "7",
    "nested results": "[" * 100_000,
    "results as a list": '{"results": []}',
    "no results": '{"config": {}}',
    "results of a classifier": '{"accuracy": 0.5, "loss": 1.0}',
    "another task": '{"results": {"other": {}}}',
    "another mean": json.dumps({"results": {"quiz": {"acc,none": 0.25}}}),
    "a mean that is none": '{"results": {"quiz": {"acc,none": NaN}}}',
}
COMPASS = {
    "an empty file": "",
    "an empty object": "{}",
    "a file of a list": "[]",
    "numbers from 1": json.dumps({"1": ppl_entry(0, 1)}),
    "no prediction": json.dumps({"0": {"gold": "A"}}),
    "an entry as text": json.dumps({"0": "A"}),
    "nobody knows what is right": json.dumps({"0": {"origin_prompt": "a", "prediction": "b"}}),
    "nested entries": "{" * 100_000,
    "labels as text": json.dumps({"0": {"label: A": 1, "label: B": 2, "prediction": "A"}}),
}


def skipped(folder, name):
    """Return the reasons for which a file is skipped, beside a sound folder that stays."""
    write_harness(folder / "sound", {"quiz": [sample(0, 1.0)]}, model="org/sound")
    collection = collect_all(folder)
    assert [run.base_model for run in collection.runs] == ["org/sound"]
    reasons = {entry.path: entry.reason for entry in collection.skipped}
    assert name in reasons
    assert all(reason and "\n" not in reason and len(reason) < 400 for reason in reasons.values())
    return reasons


def test_there_are_fifty_kinds_of_odd_files():
    assert len(LINES) + len(RESULTS) + len(COMPASS) + 4 >= 50


@pytest.mark.parametrize("kind", LINES)
def test_odd_samples_are_named(tmp_path, kind):
    write_harness(tmp_path / "odd", {"quiz": [sample(0, 1.0)]})
    (tmp_path / "odd" / SAMPLES).write_text(LINES[kind])
    skipped(tmp_path, f"odd/{SAMPLES}")


@pytest.mark.parametrize("kind", RESULTS)
def test_odd_results_are_named(tmp_path, kind):
    path = write_harness(tmp_path / "odd", {"quiz": [sample(0, 1.0)]})
    path.write_text(RESULTS[kind])
    assert len(skipped_names(tmp_path)) == 1


def skipped_names(folder):
    write_harness(folder / "sound", {"quiz": [sample(0, 1.0)]}, model="org/sound")
    collection = collect_all(folder)
    assert [run.base_model for run in collection.runs] == ["org/sound"]
    return [entry.path for entry in collection.skipped]


@pytest.mark.parametrize("kind", COMPASS)
def test_odd_predictions_are_named(tmp_path, kind):
    write_compass(tmp_path / "odd", {"arc": [ppl_entry(0, 1)]})
    (tmp_path / "odd" / "predictions" / "toy-hf" / "arc.json").write_text(COMPASS[kind])
    skipped(tmp_path, "odd/predictions/toy-hf/arc.json")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_file_is_named(tmp_path, make):
    write_harness(tmp_path / "odd", {"quiz": [sample(0, 1.0)]})
    path = tmp_path / "odd" / SAMPLES
    path.unlink()
    make(path)
    skipped(tmp_path, f"odd/{SAMPLES}")


def test_bytes_that_are_no_text_are_named(tmp_path):
    write_harness(tmp_path / "odd", {"quiz": [sample(0, 1.0)]})
    (tmp_path / "odd" / SAMPLES).write_bytes(b"\xff\xfe\x00" * 9)
    skipped(tmp_path, f"odd/{SAMPLES}")


def test_groups_that_hold_each_other_end(tmp_path):
    groups = {"one": {"tasks": ["two"], "totals": {}}, "two": {"tasks": ["one"], "totals": {}}}
    write_harness(tmp_path, {"quiz": [sample(0, 1.0)]}, groups=groups)
    assert [score.benchmark for score in collect_all(tmp_path).runs[0].scores] == ["quiz"]


def test_a_name_of_a_task_cant_lead_to_another_folder(tmp_path):
    path = write_harness(tmp_path / "a", {"quiz": [sample(0, 1.0)]})
    values = json.loads(path.read_text())
    values["results"] = {"../../../etc/passwd": {}} | values["results"]
    path.write_text(json.dumps(values))
    assert [score.benchmark for score in collect_all(tmp_path).runs[0].scores] == ["quiz"]
