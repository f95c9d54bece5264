"""Rows that are kept for a whole run: few in memory, many in a file; they are the same rows."""

import datetime
import random

import pytest

from workbench.config.data import DataConfig, SourceConfig
from workbench.config.model import Task
from workbench.data.holdout import hold_out
from workbench.data.readers import row_store
from workbench.data.readers.row import Row
from workbench.data.readers.row_store import StoredRows, by_source, concatenate, keep_rows, select
from workbench.data.rows import load_kept_rows, load_rows


@pytest.fixture(autouse=True)
def many(monkeypatch):
    """Ten rows are many."""
    monkeypatch.setattr(row_store, "MOST_IN_MEMORY", 10)
    monkeypatch.setattr(row_store, "BATCH", 7)


def rows_of(count):
    return [
        Row({"prompt": f"q {n}", "completion": [n, {"x": None}]}, f"a.jsonl:{n}", "a") for n in range(count)
    ]


def test_few_rows_stay_a_list_and_many_are_in_a_file_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert keep_rows(iter(rows_of(10))) == rows_of(10)
    kept = keep_rows(iter(rows_of(11)))
    assert isinstance(kept, StoredRows) and list(kept) == rows_of(11)
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_file_are_had_one_by_one_in_part_and_by_number_as_from_a_list():
    rows = rows_of(40)
    kept = keep_rows(iter(rows))
    assert (kept[0], kept[-1], len(kept)) == (rows[0], rows[-1], 40)
    assert list(kept[5:25:3]) == rows[5:25:3]
    assert list(select(kept, [7, 3, 3, 39])) == select(rows, [7, 3, 3, 39])
    assert list(concatenate(kept[:3], kept[30:])) == concatenate(rows[:3], rows[30:])
    assert random.Random(1).sample(kept, 5) == random.Random(1).sample(rows, 5)


def test_rows_of_a_file_come_by_source_without_being_read_all_at_once():
    rows = [Row({"text": str(n)}, f"x:{n}", "b" if 10 <= n < 25 else "a") for n in range(40)]
    runs = list(by_source(keep_rows(iter(rows))))
    assert [(name, list(part)) for name, part in runs] == [(name, part) for name, part in by_source(rows)]
    assert [(name, len(part)) for name, part in runs] == [("a", 10), ("b", 15), ("a", 15)]
    assert all(isinstance(part, StoredRows) for _, part in runs)


def test_values_of_any_type_come_back_as_they_were():
    values = {
        "when": datetime.datetime(2024, 2, 3),
        "bytes": b"\x00\xff",
        "n": 2**70,
        "text": "第\ud800",
        "no": None,
    }
    row = Row(values, "a.parquet: row 1", "s", "a.parquet", {"id": "a.id or b.id"})
    assert list(keep_rows([row] * 11)) == [row] * 11


def test_weights_choose_the_same_rows_whether_they_are_kept_or_not(tmp_path):
    for name, count in (("a", 30), ("b", 4)):
        lines = "".join(f'{{"prompt": "{name}{n}", "completion": "x"}}\n' for n in range(count))
        (tmp_path / f"{name}.jsonl").write_text(lines)
    sources = {
        "a": SourceConfig(path=str(tmp_path / "a.jsonl"), weight=0.4),
        "b": SourceConfig(path=str(tmp_path / "b.jsonl"), weight=2.5),
    }
    data = DataConfig(sources=sources)
    kept = load_kept_rows(data, 3)
    assert isinstance(kept, StoredRows) and list(kept) == load_rows(data, 3)
    assert len(kept) == 12 + 10


@pytest.mark.parametrize("fraction", [None, 0.0, 0.1])
def test_the_same_rows_are_held_out_of_a_file_as_of_a_list(fraction):
    rows = rows_of(300)
    data = DataConfig(path="a.jsonl", validation_fraction=fraction)
    texts = [Row({"prompt": f"question {n}", "completion": "a"}, row.where) for n, row in enumerate(rows)]
    split, stored = (hold_out(some, data, Task.causal_lm) for some in (texts, keep_rows(iter(texts))))
    assert isinstance(stored.training, StoredRows)
    assert (list(stored.training), list(stored.held_out)) == (split.training, split.held_out)
    assert (stored.num_near, stored.num_begun, stored.reason) == (
        split.num_near,
        split.num_begun,
        split.reason,
    )
