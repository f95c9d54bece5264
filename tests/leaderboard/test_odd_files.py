"""One odd or edited file is named and left out, and the rest of the board stands."""

import json
import os
import threading
from pathlib import Path

import pandas
import pytest
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.result_checksums import facts_digest, score_digests
from workbench.files import LOCK, file_fingerprint, locked, read_json
from workbench.leaderboard import page
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.leaderboard.items.run_texts import RunTexts
from workbench.leaderboard.outputs import markdown, writing
from workbench.run_dir import RunDir
from workbench.run_record import RunRecord


def shown(runs: Path) -> str:
    """The board as text with a line for each of its runs, after all its files have been written."""
    found = collect(runs)
    board = build(found, LeaderboardConfig())
    texts = RunTexts(board, found.runs)
    page.write(board, texts, runs)
    writing.write(board, texts, runs)
    return markdown.text(board) + "".join(f"## {label}\n" for label in board.provenance)


def score_edited(**changes):
    def edit(path: Path) -> None:
        values = read_json(path / "results.json")
        values["scores"][0].update(changes)
        (path / "results.json").write_text(json.dumps(values))

    return edit


def written(name: str, text: str):
    return lambda path: (path / name).write_text(text)


def prediction_edited(**changes):
    def edit(path: Path) -> None:
        file = path / "predictions" / "base" / "toy-reading-zh.jsonl"
        first, rest = file.read_text().split("\n", 1)
        file.write_text(json.dumps({**json.loads(first), **changes}) + "\n" + rest)

    return edit


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "edit",
    [
        score_edited(confidence=1.0),
        score_edited(confidence=None),
        score_edited(rule=7),
        score_edited(stderr=1e308),
        score_edited(value=10**400),
        score_edited(num_items=-3),
        score_edited(num_items=1.5),
        score_edited(average=[]),
        score_edited(letters={"A": float("inf")}),
        score_edited(interval=[0.1, 1e300]),
        score_edited(groups={"a": {"value": 1.0, "num_items": True}}),
        score_edited(num_total="x"),
        score_edited(item_score=5),
        score_edited(group_members={"a": [{}]}),
        score_edited(higher_is_better="yes"),
        written("results.json", DEEP),
        written("results.json", "[" * 100_000),
        written("results.json", '{"schema_version": 1, "models": {}, "scores": [' + "7" * 5000 + "]}"),
        lambda path: ((path / "results.json").unlink(), (path / "results.json").mkdir()),
    ],
)
def test_an_odd_results_json_is_left_out_and_the_rest_of_the_board_stands(runs, edit):
    edit(runs / "quickstart")
    text = shown(runs)
    assert "Skipped quickstart/results.json: " in text and "## quickstart-0badcafe" in text
    assert "## quickstart\n" not in text


@pytest.mark.parametrize(
    "edit",
    [
        prediction_edited(id=["a"]),
        prediction_edited(subset={}),
        prediction_edited(scores={"acc": 1e308}),
        prediction_edited(scores={"acc": None}),
        prediction_edited(prediction=[1]),
        prediction_edited(target={"a": 1}),
        prediction_edited(id="\ud800"),
        prediction_edited(cluster="\ud800"),
        written("predictions/base/toy-reading-zh.jsonl", DEEP + "\n"),
    ],
)
def test_odd_predictions_cost_only_the_comparison(runs, edit):
    edit(runs / "quickstart")
    text = shown(runs)
    assert "predictions can't be read" in text and "## quickstart\n" in text


@pytest.mark.parametrize(
    ("change", "num_lost"),
    [
        ({"choices": [1, 2]}, 0),
        ({"loglikelihoods": ["x"]}, 1),
        ({"context": None}, 0),
        ({"prediction": 10**30}, 1),
    ],
)
def test_odd_texts_of_answers_cost_only_what_is_odd(runs, change, num_lost):
    prediction_edited(**change)(runs / "quickstart")
    assert "predictions can't be read" not in shown(runs)
    items = pandas.read_parquet(runs / "items.parquet")
    odd = items[(items.benchmark == "toy-reading-zh") & items.answer.isna()]
    assert odd.model.nunique() == num_lost and odd.score.notna().all()


@pytest.mark.parametrize(
    "content",
    [
        {"steps": {}, "train": {"seconds": float("nan"), "peak_bytes": 10**400}},
        {"steps": {}, "evaluate": {"base": {"toy-reading-zh": {"seconds": float("inf")}}}},
        {"steps": {}, "evaluate": {"base": {"toy-reading-zh": []}}, "train": "long"},
        {"steps": {"evaluate/base/toy-reading-zh": {}}},
        {"steps": 3},
        [],
    ],
)
def test_an_odd_run_json_costs_only_what_it_says(runs, content):
    (runs / "quickstart" / "run.json").write_text(json.dumps(content))
    assert "## quickstart\n" in shown(runs)
    (runs / "quickstart" / "run.json").unlink()
    (runs / "quickstart" / "run.json").mkdir()
    assert "## quickstart\n" in shown(runs)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def beyond_all_measure(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**38)


@pytest.mark.parametrize("make", [pipe, device, beyond_all_measure])
@pytest.mark.parametrize("name", ["results.json", "run.json", "train.json", "merge_report.json"])
def test_what_could_be_read_without_end_is_not_read(runs, name, make):
    (runs / "quickstart" / name).unlink(missing_ok=True)
    make(runs / "quickstart" / name)
    text = shown(runs)
    assert "## quickstart-0badcafe" in text
    assert ("Skipped quickstart/results.json: " in text) == (name == "results.json")


@pytest.fixture
def sealed(tmp_path) -> RunDir:
    """A run whose scores have checksums."""
    files = write_run(tmp_path / "runs" / "sealed", [Spec(), Spec(name="other", language="en")])
    files.run_json.unlink()
    record = RunRecord(files.run_json)
    record.values["results"] = facts_digest(read_json(files.results_json))
    for (model, benchmark), digest in score_digests(files.results_json).items():
        step, output = f"evaluate/{model}/{benchmark}", files.predictions(model, benchmark)
        record.finish(step, "inputs", output, {"seconds": 1.0}, digests={"scores": digest})
    return files


def test_scores_with_checksums_are_shown_without_a_remark(sealed):
    text = shown(sealed.path.parent)
    assert "not verified" not in text and "Skipped" not in text and "other" in text


def test_an_edited_score_is_named_and_left_out_and_its_neighbours_are_shown(sealed):
    score_edited(value=0.987654)(sealed.path)
    found = collect(sealed.path.parent)
    keys = [(score.model, score.benchmark) for score in found.runs[0].scores]
    assert ("base", "toy-reading-zh") not in keys and len(keys) == 5
    assert "the scores of base on toy-reading-zh were changed since" in found.skipped[0].reason
    assert "98.8" not in shown(sealed.path.parent)


def test_facts_that_were_edited_are_not_shown(sealed):
    values = read_json(sealed.results_json)
    values["models"]["base"]["quantization"] = "none"
    sealed.results_json.write_text(json.dumps(values))
    text = shown(sealed.path.parent)
    assert "Skipped sealed/results.json: the facts about run and models were changed" in text


def test_edited_predictions_are_not_compared(sealed):
    prediction_edited(scores={"acc": 1.0})(sealed.path)
    assert "was changed since it was written" in shown(sealed.path.parent)


def test_scores_without_their_run_json_are_shown_as_not_verified(sealed):
    sealed.run_json.unlink()
    text = shown(sealed.path.parent)
    assert "not verified: its scores have no checksums" in text and "Skipped" not in text
    assert "not verified" in (sealed.path.parent / "leaderboard.html").read_text()
    assert read_json(sealed.path.parent / "leaderboard.json")["models"][0]["remarks"]


def test_a_run_json_that_was_changed_vouches_for_nothing(sealed):
    sealed.run_json.write_text(sealed.run_json.read_text().replace("1.0", "2.0"))
    text = shown(sealed.path.parent)
    assert "run.json is damaged, or was changed since it was written" in text and "not verified" in text


def test_half_written_pages_of_a_killed_process_are_cleared(sealed):
    runs = sealed.path.parent
    (runs / ".leaderboard.md.abcd1234").write_text("half")
    (runs / "leaderboard.txt").write_text("mine")
    shown(runs)
    left = {path.name for path in runs.iterdir()}
    assert not [name for name in left if name.startswith(".")]
    assert {"leaderboard.html", "leaderboard.json", "leaderboard.md", "leaderboard.txt", "sealed"} <= left


def test_a_second_process_waits_for_the_board(tmp_path):
    order = []

    def second() -> None:
        with locked(tmp_path / LOCK, wait=True):
            order.append("second")

    with locked(tmp_path / LOCK, wait=True):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and os.listdir(tmp_path) == [LOCK]


def test_a_file_has_one_fingerprint_wherever_it_lies(sealed, tmp_path):
    moved = sealed.path.rename(tmp_path / "elsewhere")
    record = RunRecord(moved / "run.json")
    for model, benchmark in score_digests(moved / "results.json"):
        path = RunDir(moved).predictions(model, benchmark)
        assert record.values["steps"][f"evaluate/{model}/{benchmark}"]["output"] == file_fingerprint(path)
