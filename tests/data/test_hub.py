"""Rows of hub data sets, of training and of benchmarks, without a network."""

import datasets
import pytest

from workbench.config.benchmark import BenchmarkConfig, HubConfig, OutputType
from workbench.config.data import DataConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.data.rows import load_rows
from workbench.errors import DataError
from workbench.evaluation.prepare_benchmarks import load_rows as benchmark_rows
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks


@pytest.fixture
def hub(monkeypatch):
    def load_dataset(path: str, name: str | None, split: str, streaming: bool = False) -> datasets.Dataset:
        rows = [{"q": f"{name} {split} {n}", "a": f"{name}-{n}", "extra": None} for n in range(3)]
        rows[0]["call"] = {"x": 1}
        rows[1]["call"] = {"y": [{"z": 1}, {"w": 2}]}
        rows[2]["call"] = None
        dataset = datasets.Dataset.from_list(rows)
        return dataset.to_iterable_dataset() if streaming else dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


BENCHMARK = {
    "language": "en",
    "dataset": "own/set",
    "hub": HubConfig(name="{subset}"),
    "output_type": OutputType.generation,
    "metrics": ["exact_match"],
    "question": "{{ q }}",
    "target": "{{ a }}",
}


def test_rows_are_counted_from_one_in_training_and_in_benchmarks(hub):
    for streaming in (False, True):
        training = load_rows(DataConfig(path="own/set", subset="law", streaming=streaming))
        assert [row.where for row in training] == [f"own/set law train: row {n}" for n in (1, 2, 3)]
        asked = benchmark_rows("b", BenchmarkConfig(**BENCHMARK), "train", "law").values()
        assert [(row.where, row.values) for row in asked] == [(row.where, row.values) for row in training]


def test_fields_of_objects_that_a_row_never_had_are_not_there(hub):
    rows = load_rows(DataConfig(path="own/set"))
    assert [row.values["call"] for row in rows] == [{"x": 1}, {"y": [{"z": 1}, {"w": 2}]}, None]
    assert rows[0].values["extra"] is None


def test_each_subset_is_shown_examples_of_its_own(hub):
    subsets = {"law": "Law", "art": "Art"}
    config = BenchmarkConfig(**BENCHMARK, subsets=subsets, fewshot_split="dev", num_fewshot=2)
    items = prepare_benchmarks({"b": config}, EvaluateConfig())["b"].examples
    assert {(item.subset, shot.question) for item in items for shot in item.shots} == {
        (subset, f"{subset} dev {n}") for subset in subsets for n in (0, 1)
    }


def test_a_stream_that_breaks_off_is_one_line_with_the_last_row(monkeypatch):
    def rows():
        yield {"q": "1", "a": "2"}
        raise ConnectionError("the peer has gone\nafter a while")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
    with pytest.raises(DataError, match=r"^own/set train: .* no row after row 1, the peer has gone$"):
        load_rows(DataConfig(path="own/set", streaming=True))
