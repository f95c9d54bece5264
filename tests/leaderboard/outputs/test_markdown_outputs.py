"""leaderboard.md."""

import re
from dataclasses import replace

from workbench.leaderboard.board import UNTESTED
from workbench.leaderboard.outputs import markdown


def lines_of_tables(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def cells(line):
    return re.split(r"(?<!\\)\|", line.strip("|"))


def test_every_model_has_a_line_and_every_column_a_cell(board):
    scores = markdown.text(board).split("## Mean")[0]
    lines = lines_of_tables(scores)
    assert len(lines) == 3 + len(board.models)
    assert {len(cells(line)) for line in lines} == {1 + len(board.columns)}


def test_names_of_others_neither_end_a_cell_nor_are_markup(hostile):
    text = markdown.text(hostile)
    widths = [len(cells(line)) for line in lines_of_tables(text.split("## Mean")[0])]
    assert set(widths) == {1 + len(hostile.columns)}
    assert "<img" not in text and "\x1b" not in text and "`y`" not in text.replace("\\`", "")


def test_a_score_apart_says_why(board):
    assert "40.0 (38.1–41.9) † 2,680 of 11,582 items" in markdown.text(board)


def test_a_mean_names_the_columns_that_it_is_over_and_those_that_it_is_not(board):
    text = markdown.text(board)
    assert "Over cmmlu, ceval, c3, 阅读理解." in text
    assert "- Not gsm8k: only 2 of 9 models have it" in text


def test_the_family_of_comparisons_is_stated_with_its_reference(board):
    text = markdown.text(board)
    assert f"72 comparisons, all against {board.models[0].name}; together at most 3%" in text


def test_a_difference_without_a_test_says_why(board):
    untested = replace(board.differences[0], verdict=UNTESTED, problem="too few clusters differ")
    assert "not tested: too few clusters differ" in markdown.text(replace(board, differences=(untested,)))


def test_many_differences_are_left_to_the_csv(board):
    many = replace(board, differences=board.differences * 4)
    assert f"All {len(many.differences)} are in differences.csv." in markdown.text(many)


def test_what_a_reader_must_know_is_there(board):
    text = markdown.text(board)
    assert "its file of predictions has 11,580 of the 11,582 items that it scored**" in text
    assert "could not be scored (out of memory)" in text
    assert "not verified: its scores have no checksums" in text
    assert "- Skipped old/results.json: schema\\_version is 7 (known: 1)" in text


def test_a_board_without_scores_says_so(board):
    empty = replace(board, columns=(), cells=(), differences=(), means=())
    assert "No scores." in markdown.text(empty)
