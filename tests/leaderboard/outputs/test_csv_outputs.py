"""leaderboard.csv and differences.csv, as pandas reads them."""

import csv
import io
from dataclasses import replace

import pandas
import pytest

from workbench.leaderboard.outputs import csv_files, rows


def frame(text):
    return pandas.read_csv(io.StringIO(text), dtype={"model_key": str, "column_key": str})


def test_pandas_reads_one_line_for_each_score_of_the_board(board):
    found = frame(csv_files.scores(board))
    assert len(found) == len(board.cells)
    names = {model.key: model.name for model in board.models}
    labels = {column.key: column.label for column in board.columns}
    expected = {(names[cell.model], labels[cell.column]): cell.score.value for cell in board.cells}
    assert dict(zip(zip(found.model, found.column, strict=True), found.value, strict=True)) == expected


def test_a_score_apart_says_how_many_items_it_has_and_has_no_rank(board):
    found = frame(csv_files.scores(board))
    [apart] = found[found.apart.notna()].to_dict("records")
    assert (apart["num_items"], apart["num_total"], apart["apart"]) == (2680, 11582, "2,680 of 11,582 items")
    assert pandas.isna(apart["rank_best"]) and pandas.isna(apart["letters"])


def test_a_score_names_the_model_that_its_model_was_made_from(board):
    found = frame(csv_files.scores(board))
    assert set(found[found.role == "adapter"].parent) == {board.models[0].name}


def test_pandas_reads_every_difference_of_the_family(board):
    found = frame(csv_files.differences(board))
    assert list(found.difference) == [difference.value for difference in board.differences]
    assert list(found.verdict) == [difference.verdict for difference in board.differences]
    assert set(found.family) == {board.family.num_comparisons}


def test_a_difference_in_a_mean_is_named_by_the_mean(board):
    of_mean = replace(board.differences[0], column="zh")
    [row] = frame(csv_files.differences(replace(board, differences=(of_mean,)))).to_dict("records")
    assert row["benchmark"] == row["column"] == "mean: zh" and row["metric"] == "mean above chance"


def test_a_difference_that_was_not_tested_leaves_its_numbers_empty(board):
    untested = replace(
        board.differences[0], value=None, low=None, high=None, p_value=None, problem="too few clusters differ"
    )
    [row] = frame(csv_files.differences(replace(board, differences=(untested,)))).to_dict("records")
    assert pandas.isna(row["difference"]) and row["problem"] == "too few clusters differ"


def test_no_field_is_a_formula_for_a_spreadsheet(hostile):
    for text in (csv_files.scores(hostile), csv_files.differences(hostile)):
        fields = [field for row in csv.reader(io.StringIO(text)) for field in row]
        starts = [field for field in fields if field.startswith(("=", "+", "@", "-"))]
        assert all(float(field) <= 0 for field in starts)
        assert "'=1+1 {{ 7*7 }} ${x} `y`" in fields


@pytest.mark.parametrize("name", ["=1", "+1", "-1", "@a", "  =1", "\t=1", "＝1", "\n-1"])
def test_a_name_that_begins_like_a_formula_gets_an_apostrophe(board, name):
    models = (replace(board.models[0], name=name), *board.models[1:])
    first = frame(csv_files.scores(replace(board, models=models))).model[0]
    assert first == f"'{name.strip()}"


def test_every_field_is_one_line_without_control_characters(hostile):
    for text in (csv_files.scores(hostile), csv_files.differences(hostile)):
        assert text.count("\n") == len(list(csv.reader(io.StringIO(text))))
        assert text.replace("\n", "").isprintable()


def test_a_board_without_scores_still_has_the_header(board):
    empty = replace(board, cells=(), differences=())
    assert list(frame(csv_files.scores(empty))) == list(rows.SCORE_COLUMNS)
    assert list(frame(csv_files.differences(empty))) == list(rows.DIFFERENCE_COLUMNS)
