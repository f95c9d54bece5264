"""The file of answers of the predict step."""

import csv

import pytest

from workbench.pipeline.predict.answer_file import file_text, read_answers

ROWS = [
    {"标题": '说 "好", 再说', "label": "体育", "probabilities": {"体育": 0.75, "财经": 0.25}},
    {"标题": "两\n行", "label": "财经", "probabilities": {"体育": 0.125, "财经": 0.875}},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.CSV"])
def test_answers_are_read_back_as_they_were_written(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(file_text(ROWS, path).encode())
    assert read_answers(path) == ROWS


def test_a_csv_begins_with_the_mark_by_which_excel_knows_utf8_and_has_a_column_a_class(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(file_text(ROWS, path).encode())
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["标题", "label", "probability 体育", "probability 财经"]
    assert table[2] == ["两\n行", "财经", "0.125", "0.875"]


def test_nested_values_of_a_row_are_json_in_a_cell(tmp_path):
    assert '"{""a"": [1]}"' in file_text([{"x": {"a": [1]}, "answer": "y"}], tmp_path / "a.csv")
