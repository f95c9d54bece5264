"""contamination.json, and scores without the items that training rows have."""

import json
from dataclasses import replace

import numpy as np
import pytest

from workbench.data.contamination.compare import Overlap
from workbench.data.contamination.search import Contamination, Pair
from workbench.errors import DataError
from workbench.evaluation.contamination_items import THRESHOLDS, benchmark_contamination, item_of
from workbench.evaluation.contamination_report import (
    ContaminationReport,
    clean_score,
    read_contamination,
    write_contamination,
)
from workbench.evaluation.records import Example, Prediction, Score
from workbench.statistics.intervals import cluster_stderr


def predictions(values: dict[str, float], metric: str = "acc") -> list[Prediction]:
    return [
        Prediction(
            id=name,
            subset=name.split("/")[0],
            prompt_hash="",
            context="",
            prediction=0,
            target=0,
            scores={metric: value},
        )
        for name, value in values.items()
    ]


def score(**fields) -> Score:
    known = {"model": "adapter", "benchmark": "b", "language": "en", "metric": "acc", "value": 0.5}
    rest = {"stderr": 0.1, "interval": None, "num_items": 4, "num_fewshot": 0, "protocol": "", "prompts": ""}
    return Score(**{**known, **rest, **fields})


VALUES = {"a/0": 1.0, "a/1": 0.0, "a/2": 1.0, "b/0": 1.0, "b/1": 0.0}


def test_the_clean_score_is_the_mean_of_the_items_that_were_not_found():
    clean = clean_score(score(), predictions(VALUES), {"a/0"})
    left = [0.0, 1.0, 1.0, 0.0]
    assert clean["value"] == np.mean(left)
    assert clean["stderr"] == pytest.approx(np.std(left, ddof=1) / 2)
    assert clean["num_items"] == 4


def test_a_macro_score_stays_the_mean_of_subset_means():
    clean = clean_score(score(average="macro"), predictions(VALUES), {"a/1"})
    assert clean["value"] == pytest.approx((1 + 0.5) / 2)


def test_a_clean_score_has_the_error_of_clusters_as_the_whole_score_has():
    values = {f"a/{n}": float(n % 10 < 4) for n in range(60)}
    clustered = [
        replace(item, cluster=f"text {n % 10}" if n % 10 else "")
        for n, item in enumerate(predictions(values))
    ]
    clean = clean_score(score(), clustered, {"a/59"})
    independent = clean_score(score(), predictions(values), {"a/59"})
    labels = [item.cluster or item.id for item in clustered[:-1]]
    assert clean["stderr"] == cluster_stderr([*values.values()][:-1], labels) > 1.5 * independent["stderr"]
    assert clean["interval"][0] < independent["interval"][0]


def test_a_score_that_is_no_mean_of_items_has_no_clean_part():
    assert clean_score(score(item_score="1 where right"), predictions(VALUES), {"a/1"}) is None
    assert clean_score(score(), predictions(VALUES), set(VALUES)) is None


def report() -> ContaminationReport:
    pair = Pair("a/1", "rows.jsonl:3", Overlap("near", 0.91234567, 14))
    found = benchmark_contamination(Contamination(5, 1, (pair,)), "f00")
    return ContaminationReport(data="da7a", num_rows=10, benchmarks={"b": found}, thresholds=THRESHOLDS)


def test_the_file_is_read_as_it_was_written(tmp_path):
    write_contamination(tmp_path / "contamination.json", report())
    assert read_contamination(tmp_path / "contamination.json") == report()
    assert read_contamination(tmp_path / "other.json") is None


@pytest.mark.parametrize("key", ["num_rows", "benchmarks", "schema_version"])
def test_a_changed_or_foreign_file_is_refused(tmp_path, key):
    path = tmp_path / "contamination.json"
    write_contamination(path, report())
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 7}))
    with pytest.raises(DataError, match=r"contamination\.json"):
        read_contamination(path)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"contamination\.json"):
        read_contamination(path)


def test_letters_are_not_options_and_shots_are_not_part_of_an_item():
    lettered = Example(id="1", questions=("Q\nA. x\nB. y",), continuations=(" A", " B"), target=0)
    assert item_of(lettered).options == ()
    texts = Example(id="1", description="D", questions=("Q",), continuations=(" x y", " z"), target=0)
    assert item_of(texts).options == (" x y", " z")
    assert item_of(texts).questions == ("Q",)
