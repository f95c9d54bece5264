"""Questions and answers of a board's items, read from the runs."""

import numpy as np
import pyarrow as pa
import pytest
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.records import read_predictions, write_predictions
from workbench.leaderboard.board import Outcomes
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.leaderboard.items import index
from workbench.leaderboard.items.answer_file import AnswerFile
from workbench.leaderboard.items.model_answers import checked_answers
from workbench.leaderboard.items.run_texts import RunTexts, questions
from workbench.leaderboard.page.texts import NOT_CHOSEN


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "runs" / "a", [Spec(num_items=20)])


def read(run) -> tuple[Outcomes, RunTexts, str]:
    found = collect(run.path.parent)
    board = build(found, LeaderboardConfig())
    [key] = board.outcomes
    return board.outcomes[key], RunTexts(board, found.runs), key


def edited(run, model, **changes):
    path = run.predictions(model, "toy-reading-zh")
    predictions = read_predictions(path)
    for name, value in changes.items():
        object.__setattr__(predictions[0], name, value)
    write_predictions(path, predictions)


def test_options_targets_and_answers_are_those_of_the_predictions(run):
    outcomes, texts, key = read(run)
    found = texts.column(key)
    base = read_predictions(run.predictions("base", "toy-reading-zh"))
    assert found.choices == [item.choices for item in base]
    assert found.targets == [[item.target] for item in base]
    assert found.chosen[0].tolist() == [item.prediction for item in base]
    assert found.loglikelihoods[0].tolist() == pytest.approx(np.array([i.loglikelihoods for i in base]))


def test_an_answer_is_right_where_its_score_is_1(run):
    outcomes, texts, key = read(run)
    found = texts.column(key)
    right = found.chosen == np.array([target for [target] in found.targets])
    assert right.tolist() == (outcomes.values == 1).tolist()


def test_an_item_without_an_answer_chose_nothing(run):
    edited(run, "base", prediction=None)
    _, texts, key = read(run)
    assert texts.column(key).chosen[0, 0] == NOT_CHOSEN


def test_generated_answers_are_given_as_text(run):
    for model in ("base", "adapter", "merged"):
        edited(run, model, generation=f"text of {model}")
    _, texts, key = read(run)
    found = texts.column(key)
    assert found.chosen is None
    assert found.generations[0][0] == "text of base" and found.generations[0][1] is None


def test_a_column_that_the_board_does_not_compare_has_no_texts(run):
    _, texts, _ = read(run)
    assert texts.column("none") is None


def test_a_question_is_the_prompt_without_what_all_prompts_of_its_subset_share():
    contexts = ["law.\n\nQ: a\nA: 1\n\nQ: how?\nA:", "law.\n\nQ: a\nA: 1\n\nQ: why?\nA:", "arts.\n\nQ: who?"]
    assert questions(contexts, ["law", "law", "arts"]) == ["Q: how?\nA:", "Q: why?\nA:", "arts.\n\nQ: who?"]


def test_equal_prompts_are_shown_whole():
    assert questions(["a\nb\n", "a\nb\n"], ["", ""]) == ["a\nb\n", "a\nb\n"]


def test_texts_from_the_index_are_the_texts_from_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "WORTHWHILE", 1)
    run = write_run(tmp_path / "runs" / "a", [Spec(right={"base": 0.3, "adapter": 0.5})])
    found, kept = collect(run.path.parent), tmp_path / "index"
    board = build(found, LeaderboardConfig(), index.ItemIndex(kept))
    [key] = board.outcomes
    fresh, known = (
        RunTexts(board, found.runs).column(key),
        RunTexts(board, found.runs, index.ItemIndex(kept)).column(key),
    )
    assert kept.is_file() and known.choices == fresh.choices and known.targets == fresh.targets
    assert known.chosen.tolist() == fresh.chosen.tolist()
    assert np.array_equal(known.loglikelihoods, fresh.loglikelihoods, equal_nan=True)


def test_the_index_answers_for_no_file_that_was_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "WORTHWHILE", 1)
    run = write_run(tmp_path / "runs" / "a", [Spec("toy-reading-zh", right={"base": 0.3, "adapter": 0.5})])
    kept = tmp_path / "index"
    build(collect(run.path.parent), LeaderboardConfig(), index.ItemIndex(kept))
    edited(run, "base", loglikelihoods=[-1.0, -2.0])
    found = collect(run.path.parent)
    board = build(found, LeaderboardConfig())
    [key] = board.outcomes
    assert kept.is_file()
    likelihoods = RunTexts(board, found.runs, index.ItemIndex(kept)).column(key).loglikelihoods
    assert likelihoods[0, 0, :2].tolist() == [-1.0, -2.0]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"prediction": None},
        {"prediction": "b"},
        {"loglikelihoods": [-1.0]},
        {"loglikelihoods": [float("-inf"), 0.0]},
        {"generation": "text"},
    ],
)
def test_answers_read_in_bulk_are_those_of_the_checked_reader(run, change):
    edited(run, "base", **change)
    path = run.predictions("base", "toy-reading-zh")
    predictions = read_predictions(path)
    ids = pa.array([one.id for one in predictions])
    found, checked = AnswerFile(path).answers(ids), checked_answers(predictions)
    assert found.chosen.tolist() == checked.chosen.tolist() and found.generations == checked.generations
    assert np.array_equal(found.loglikelihoods, checked.loglikelihoods, equal_nan=True)
