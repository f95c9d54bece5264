"""recipe=compare compare.until=decided: two models, asked until their difference is decided."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from noisy_toy import TOY, noisy_toy

from workbench.config.benchmark import Average, BenchmarkConfig, OutputType
from workbench.config.compare import CompareConfig
from workbench.errors import ConfigError, MissingStepError
from workbench.evaluation.item_interviewer import ItemInterviewer
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example
from workbench.leaderboard.early_decisions import comparisons_below
from workbench.pipeline.comparing import two_models
from workbench.pipeline.comparing.item_order import ordered


def benchmark(examples, average=Average.micro):
    config = BenchmarkConfig(
        language="en", output_type=OutputType.multiple_choice, metrics=["acc"], average=average
    )
    return PreparedBenchmark("quiz", config, examples, [], ItemInterviewer())


def example(number, cluster="", subset=""):
    return Example(id=str(number), subset=subset, questions=("q",), target=0, cluster=cluster)


def test_items_of_a_cluster_are_asked_together_and_each_item_once():
    order = ordered(benchmark([example(n, cluster=str(n % 10)) for n in range(50)]), seed=1)
    clusters = [one.cluster for one in order.examples]
    assert Counter(one.id for one in order.examples) == Counter(str(n) for n in range(50))
    assert order.ends == list(range(5, 51, 5))
    assert all(len(set(clusters[end - 5 : end])) == 1 for end in order.ends)


def test_the_order_is_the_seeds():
    items = benchmark([example(n) for n in range(50)])
    ids = [[one.id for one in ordered(items, seed).examples] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_weights_of_all_items_make_the_macro_mean():
    examples = [example(n, subset="small" if n < 10 else "large") for n in range(100)]
    order = ordered(benchmark(examples, Average.macro), seed=3)
    values = np.array([float(one.subset == "small") for one in order.examples])
    assert float(values @ order.weights) == pytest.approx(0.5)
    assert order.shares.sum() == pytest.approx(1)


def test_blocks_grow_and_end_with_all_items():
    order = ordered(benchmark([example(n) for n in range(1000)]), seed=0)
    sizes = np.diff([0, *order.blocks()])
    assert order.blocks()[-1] == 1000
    assert sizes[0] == 64
    assert all(later >= earlier for earlier, later in zip(sizes[:-2], sizes[1:-1], strict=True))


@pytest.fixture(scope="module")
def broken_model(tmp_path_factory) -> Path:
    """The toy model with random attention, which guesses."""
    return noisy_toy(tmp_path_factory.mktemp("models") / "broken", 1.0)


def compared(run, *more):
    run_dir = run("compare", f"compare.a={TOY}", "compare.until=decided", "run_dir=runs/two", *more)
    return json.loads((run_dir.path / "compare.json").read_text())


def test_models_that_score_alike_are_within_the_margin_before_all_items_are_asked(run, broken_model, caplog):
    words = (f"compare.b={broken_model}", "compare.margin=0.3", "benchmark=[toy_exact_en]")
    [decision] = compared(run, *words)["decisions"]
    assert decision["decision"] == "within the margin"
    assert decision["num_decided"] <= decision["num_asked"] < decision["num_total"]
    assert "forecast" in caplog.text.partition("decided after")[0]
    [found], skipped = comparisons_below(Path("runs"))
    [shown] = found.decisions
    assert (shown.verdict, shown.num_decided, shown.margin) == (
        "within the margin",
        decision["num_decided"],
        0.3,
    )
    assert skipped == []


def test_a_repeated_comparison_asks_nothing_again_and_writes_the_same_bytes(run, broken_model, caplog):
    words = (f"compare.b={broken_model}", "benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=100")
    compared(run, *words)
    path = Path("runs/two/compare.json")
    before, cached = (
        path.read_bytes(),
        [file.read_bytes() for file in sorted(Path("runs/two/cache").iterdir())],
    )
    compared(run, *words)
    assert path.read_bytes() == before
    assert [file.read_bytes() for file in sorted(Path("runs/two/cache").iterdir())] == cached


def test_the_same_model_twice_is_refused(run):
    with pytest.raises(ConfigError, match="are the same model"):
        compared(run, f"compare.b={TOY}", "benchmark=[toy_choice_en]")


def test_a_misspelt_benchmark_is_refused_where_another_one_matches(run, broken_model):
    words = ("benchmark=[toy_choice_en,toy_exact_en]", "compare.benchmarks=[toy_choice_en,toy_exakt_en]")
    with pytest.raises(ConfigError, match=r"'toy_exakt_en' is not one .*known: toy_choice_en, toy_exact"):
        compared(run, f"compare.b={broken_model}", *words)


def test_a_metric_that_is_no_mean_is_refused(run, broken_model):
    with pytest.raises(ConfigError, match="isn't the mean of scores from 0 to 1"):
        compared(run, f"compare.b={broken_model}", "benchmark=[toy_text_en]")


def test_a_run_that_began_with_new_weights_has_no_base_to_compare_with(monkeypatch):
    monkeypatch.setattr(two_models, "model_identities", lambda run: {"trained": {}})
    run = SimpleNamespace(config=SimpleNamespace(compare=CompareConfig()), run_dir=None)
    with pytest.raises(MissingStepError, match=r"compare.a: missing, and a run with model.init has no base"):
        two_models.asked_models(run)
