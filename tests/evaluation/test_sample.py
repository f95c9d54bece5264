"""The items that a limit takes."""

import hashlib
import json

import pytest

from workbench.config.benchmark import BenchmarkConfig, OutputType, Sample
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.benchmarks.sample import sampled
from workbench.evaluation.prepare_benchmarks import prepare

IDS = [str(number) for number in range(500)]


def benchmark(tmp_path, **changes) -> BenchmarkConfig:
    rows = [{"q": f"question {n}", "name": f"item {n}", "label": n % 2} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {
        "language": "en",
        "path": str(tmp_path / "rows.jsonl"),
        "output_type": OutputType.multiple_choice,
        "question": "{{ q }}",
        "choices": ["no", "yes"],
        "target_index": "label",
    }
    return BenchmarkConfig(**settings | changes)


def ids(config: BenchmarkConfig, name: str = "own", seed: int = 1234) -> list[str]:
    return [example.id for example in prepare(name, config, EvaluateConfig(fewshot_seed=seed)).examples]


def test_a_limit_takes_the_items_with_the_smallest_hashes_in_their_order():
    def digest(number: int) -> bytes:
        return hashlib.sha256(f"exam\0law\0{number}".encode()).digest()

    chosen = sampled("exam", "law", IDS, 40, Sample.hash)
    assert chosen == sorted(chosen) and len(chosen) == 40
    assert max(map(digest, chosen)) < min(digest(n) for n in range(500) if n not in chosen)
    assert chosen[-1] > 400 and chosen[0] < 100


def test_a_smaller_limit_lies_within_a_larger_one_and_none_takes_all():
    small, large = (set(sampled("exam", "law", IDS, limit, Sample.hash)) for limit in (40, 100))
    assert small < large
    for limit in (None, 500, 501):
        assert sampled("exam", "law", IDS, limit, Sample.hash) == list(range(500))


def test_another_benchmark_or_subset_takes_others():
    chosen = [tuple(sampled(*names, IDS, 40, Sample.hash)) for names in (("a", "x"), ("b", "x"), ("a", "y"))]
    assert len(set(chosen)) == 3


def test_items_keep_their_ids_and_do_not_depend_on_the_seed(tmp_path):
    chosen = ids(benchmark(tmp_path, limit=8))
    assert chosen == ids(benchmark(tmp_path, limit=8), seed=7) != [str(n) for n in range(8)]
    assert set(chosen) < set(ids(benchmark(tmp_path, limit=20)))
    assert chosen != ids(benchmark(tmp_path, limit=8), name="other")
    by_number = prepare("own", benchmark(tmp_path, limit=8), EvaluateConfig()).examples
    assert [example.questions[0] for example in by_number] == [f"question {n}" for n in chosen]


def test_an_items_own_id_decides_whatever_its_place(tmp_path):
    config = benchmark(tmp_path, limit=8, id="{{ name }}")
    chosen = set(ids(config))
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(reversed(file.read_text().split("\n"))))
    assert set(ids(config)) == chosen


def test_sample_first_takes_the_first_ones(tmp_path):
    assert ids(benchmark(tmp_path, limit=3, sample=Sample.first)) == ["0", "1", "2"]


@pytest.mark.parametrize("count", [1, 59, 60, 1000])
def test_no_limit_takes_an_item_twice(tmp_path, count):
    chosen = ids(benchmark(tmp_path, limit=count))
    assert len(chosen) == len(set(chosen)) == min(count, 60)


def test_an_item_has_its_row_s_number_whatever_keep_leaves_out(tmp_path):
    assert ids(benchmark(tmp_path, keep="label == 1"))[:3] == ["1", "3", "5"]
    assert set(ids(benchmark(tmp_path, keep="label == 1"))) < set(ids(benchmark(tmp_path)))
