"""Questions and answers of a board's items, read from the runs."""

import numpy as np
import pytest
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.records import read_predictions, write_predictions
from workbench.leaderboard.board import Outcomes
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
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
