"""leaderboard.json."""

import json
from dataclasses import fields, replace

import numpy as np

from workbench.leaderboard.board import Board
from workbench.leaderboard.outputs import board_json


def strict(text):
    return json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))


def test_every_field_of_the_board_is_there(board):
    values = strict(board_json.text(board))
    assert values.pop("schema_version") == 2
    assert list(values) == [field.name for field in fields(Board)]


def test_cells_and_differences_are_complete(board):
    values = strict(board_json.text(board))
    assert [cell["score"]["value"] for cell in values["cells"]] == [cell.score.value for cell in board.cells]
    assert values["differences"][3] == vars(board.differences[3])
    assert values["provenance"] == board.provenance


def test_outcomes_say_whose_items_they_are_without_the_items(board):
    found = strict(board_json.text(board))["outcomes"]
    first = board.outcomes[board.columns[0].key]
    assert found[first.column] == {"models": list(first.models), "num_items": 30, "num_clusters": 30}


def test_values_of_numpy_and_infinities_are_written_as_json_has_them(board):
    facts = {"rank": np.int64(8), "share": np.float32(0.5), "loss": float("nan"), "list": (1, np.True_)}
    models = (replace(board.models[0], facts=facts), *board.models[1:])
    found = strict(board_json.text(replace(board, models=models)))["models"][0]["facts"]
    assert found == {"rank": 8, "share": 0.5, "loss": None, "list": [1, True]}


def test_names_of_others_have_no_control_characters(hostile):
    names = [model["name"] for model in strict(board_json.text(hostile))["models"]]
    assert names[2].startswith("␛[31mred") and "\u202e" not in names[2]
