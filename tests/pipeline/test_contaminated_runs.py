"""Runs whose training rows have items of the benchmarks: what they say, write and score without these."""

import json

import pytest

from workbench import cli
from workbench.evaluation.contamination_report import read_contamination
from workbench.evaluation.records import read_predictions, read_results

TOY = cli.PACKAGE / "toy" / "data"
SHORT = ("train.max_steps=2", "benchmark=[toy_choice_en]", "evaluate.models=[adapter]")


@pytest.fixture
def leaked(tmp_path):
    """A file of training rows, of which the last three are items of a benchmark."""
    lines = (TOY / "instruct.jsonl").read_text(encoding="utf-8").splitlines()[:60]
    items = [json.loads(line) for line in (TOY / "choice_en.jsonl").read_text(encoding="utf-8").splitlines()]
    lines += [json.dumps({"prompt": item["question"], "completion": item["answer"]}) for item in items[5:8]]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def warnings(caplog) -> list[str]:
    return [text for text in map(str, caplog.messages) if "are in the training rows" in text]


def test_items_in_the_training_rows_are_named_and_a_score_without_them_is_written(run, leaked, caplog):
    folder = run("quickstart", *SHORT, f"data.path={leaked}", "steps=[train,evaluate]")
    [warning] = warnings(caplog)
    assert "toy_choice_en: 3 of 300 items" in warning and "rows.jsonl:61" in warning
    found = read_contamination(folder.contamination_json).benchmarks["toy_choice_en"]
    assert [item.id for item in found.found] == ["5", "6", "7"]
    assert [item.row.rpartition("/")[2] for item in found.found] == [f"rows.jsonl:{n}" for n in (61, 62, 63)]
    scores = [p.scores["acc"] for p in read_predictions(folder.predictions("adapter", "toy_choice_en"))]
    clean = found.clean["adapter"]["acc"]
    assert clean["num_items"] == 297
    assert clean["value"] == pytest.approx((sum(scores) - sum(scores[5:8])) / 297)
    [whole] = [score for score in read_results(folder.results_json)[1] if score.metric == "acc"]
    assert whole.num_items == 300

    before = folder.contamination_json.stat().st_mtime_ns
    run("quickstart", *SHORT, f"data.path={leaked}", "steps=[train,evaluate]")
    assert folder.contamination_json.stat().st_mtime_ns == before


def test_rows_that_were_held_out_of_training_do_not_count(run, leaked):
    share = ("data.validation_fraction=0.9", "steps=[train,evaluate]")
    folder = run("quickstart", *SHORT, f"data.path={leaked}", *share)
    report = read_contamination(folder.contamination_json)
    assert report.num_rows < 63


def test_streamed_rows_are_searched_as_well(run, leaked, caplog):
    run("quickstart", *SHORT, f"data.path={leaked}", "data.streaming=true", "steps=[train,evaluate]")
    assert "toy_choice_en: 3 of 300 items" in warnings(caplog)[0]


def test_a_changed_file_is_named_and_the_rows_are_searched_again(run, leaked, caplog):
    steps = (f"data.path={leaked}", "steps=[train,evaluate]")
    folder = run("quickstart", *SHORT, *steps)
    text = folder.contamination_json.read_text(encoding="utf-8")
    folder.contamination_json.write_text(text.replace("verbatim", "near"), encoding="utf-8")
    run("quickstart", *SHORT, *steps, "force=true", "steps=[evaluate]")
    assert any("the rows are searched again" in message for message in caplog.messages)
    assert folder.contamination_json.read_text(encoding="utf-8") == text
