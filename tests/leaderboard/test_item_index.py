"""Item scores kept by the content of their files, and files read in bulk as by the checked reader."""

import json
from dataclasses import replace

import numpy as np
import pytest
from leaderboard_runs import Spec, answers, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.errors import DataError
from workbench.evaluation.records import read_predictions, write_predictions
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.leaderboard.items import index
from workbench.leaderboard.items.answers import LABELS, _bulk, items_of, read_items


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The path of an index that is written for small boards too."""
    monkeypatch.setattr(index, "WORTHWHILE", 1)
    return tmp_path / "index"


def board_of(path, kept):
    return build(collect(path), LeaderboardConfig(), index.ItemIndex(kept))


def test_a_board_from_the_index_is_the_board_from_the_files(tmp_path, kept):
    specs = [Spec(right={"base": 0.3, "adapter": 0.5}, per_cluster=3), Spec("b", "en", 50, {"base": 0.4})]
    write_run(tmp_path / "runs" / "run", specs)
    cold = board_of(tmp_path / "runs", kept)
    assert kept.is_file()
    read = kept.read_bytes()
    warm = board_of(tmp_path / "runs", kept)
    assert (warm.cells, warm.differences, warm.alarms) == (cold.cells, cold.differences, cold.alarms)
    assert kept.read_bytes() == read


def test_a_file_that_has_changed_is_read_again(tmp_path, kept):
    spec = Spec(right={"base": 0.3, "adapter": 0.5})
    files = write_run(tmp_path / "runs" / "run", [spec])
    board_of(tmp_path / "runs", kept)
    path = files.predictions("adapter", spec.name)
    items = read_predictions(path)
    right = next(number for number, one in enumerate(items) if one.scores["acc"])
    write_predictions(path, [*items[:right], replace(items[right], scores={"acc": 0.0}), *items[right + 1 :]])
    [alarm] = board_of(tmp_path / "runs", kept).alarms
    assert "its file of predictions" in alarm


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[::-1]])
def test_a_damaged_index_is_not_used(damage, tmp_path, kept):
    write_run(tmp_path / "runs" / "run", [Spec(right={"base": 0.3})])
    cold = board_of(tmp_path / "runs", kept)
    kept.write_bytes(damage(kept.read_bytes()))
    assert board_of(tmp_path / "runs", kept).cells == cold.cells


def test_the_index_of_a_small_board_is_not_written(tmp_path):
    write_run(tmp_path / "runs" / "run", [Spec(right={"base": 0.3})])
    board_of(tmp_path / "runs", tmp_path / "index")
    assert not (tmp_path / "index").exists()


def predictions_of(tmp_path, **changes):
    items = [replace(one, **changes) for one in answers(Spec(num_items=9), "base")]
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, items)
    return path, items


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prediction": "text", "target": ["a", "b"]},
        {"prediction": None, "generation": "x", "target": "y"},
        {"target": [1, 2]},
        {"cluster": "c"},
    ],
)
def test_files_are_read_in_bulk_as_line_by_line(changes, tmp_path):
    path, items = predictions_of(tmp_path, **changes)
    bulk, checked = _bulk(path.read_bytes(), "acc", LABELS), items_of(items, "acc", LABELS)
    assert bulk is not None and bulk.answers_same(checked)
    assert np.array_equal(bulk.values, checked.values) and bulk.clusters.equals(checked.clusters)
    assert (bulk.predictions, bulk.targets) == (checked.predictions, checked.targets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"scores": {"acc": "1"}}, "not a prediction"),
        ({"scores": {"f1": 1.0}}, "no score of acc"),
        ({"id": 7}, "not a prediction"),
        ({"scores": {"acc": 1e200}}, "not a prediction"),
    ],
)
def test_a_line_that_is_wrong_is_named_though_the_bulk_is_read_at_once(changes, message, tmp_path):
    path, _ = predictions_of(tmp_path)
    lines = path.read_text().splitlines()
    lines[3] = json.dumps({**json.loads(lines[3]), **changes})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message) as caught:
        read_items(path, "acc")
    assert "predictions.jsonl:4" in str(caught.value)


def test_lines_of_two_kinds_are_read_one_by_one(tmp_path):
    path, items = predictions_of(tmp_path)
    write_predictions(path, [*items[:-1], replace(items[-1], prediction="none")])
    assert read_items(path, "acc", LABELS).predictions[-1] == "none"
