"""merge.search: weights chosen on one half of the items, reported on the other."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from toy_adapters import TOY, toy_adapter

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.merge import MergeConfig, WeightedPart
from workbench.errors import ConfigError
from workbench.evaluation.item_interviewer import ItemInterviewer
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example
from workbench.models import OpenLlamaForCausalLM
from workbench.models.combining.combine_adapters import combine_adapters
from workbench.models.combining.lora_factors import read_lora
from workbench.models.combining.switched_weights import SwitchedWeights
from workbench.pipeline.combining.choice import Items, JudgedSetting, best, judge
from workbench.pipeline.combining.dose_response import dose_response_svg, settings_table
from workbench.pipeline.combining.halves import halves
from workbench.pipeline.combining.scored_settings import ScoredSettings
from workbench.pipeline.combining.search_report import decide

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

MODEL = ("model.path=${toy:base}", "quantization=none", "run_dir=run")
ASKED = ("benchmark=[toy_choice_en,toy_choice_zh]", "merge.guard=[toy_choice_zh]")


def section(paths, weights):
    pairs = zip(paths, weights, strict=True)
    return MergeConfig(adapters=[WeightedPart(path=path, weight=weight) for path, weight in pairs])


def test_switched_weights_are_combinations_with_these_weights(tmp_path):
    paths = [
        toy_adapter(tmp_path / "a", 0),
        toy_adapter(tmp_path / "b", 1, r=2, target_modules=["q_proj", "v_proj"]),
    ]
    combine_adapters(None, section(paths, [0.5, 0.7]), tmp_path / "given")
    combine_adapters(None, section(paths, [0.25, 1.4]), tmp_path / "scaled")
    ids = torch.arange(3, 40)[None]

    def logits(model):
        with torch.no_grad():
            return model(ids).logits

    model = PeftModel.from_pretrained(OpenLlamaForCausalLM.from_pretrained(TOY), tmp_path / "given").eval()
    given = logits(model)
    weights = SwitchedWeights(model, [read_lora(path) for path in paths])
    weights.set((0.5, 2.0))
    scaled = PeftModel.from_pretrained(OpenLlamaForCausalLM.from_pretrained(TOY), tmp_path / "scaled").eval()
    assert torch.allclose(logits(model), logits(scaled), rtol=0, atol=1e-4)
    assert not torch.allclose(logits(model), given, rtol=0, atol=1e-2)
    weights.set((1.0, 1.0))
    assert torch.equal(logits(model), given)
    weights.set((0.0, 0.0))
    assert torch.equal(logits(model), logits(OpenLlamaForCausalLM.from_pretrained(TOY).eval()))


def test_halves_share_no_item_and_keep_clusters_together():
    examples = [
        Example(id=str(n), questions=("q",), target=0, cluster=str(n // 3) if n < 60 else "")
        for n in range(100)
    ]
    config = BenchmarkConfig(language="en", output_type=OutputType.multiple_choice, metrics=["acc"])
    benchmark = PreparedBenchmark("quiz", config, examples, [], ItemInterviewer())
    first, second = halves(benchmark, seed=1)
    ids = [{example.id for example in half.examples} for half in (first, second)]
    clusters = [{example.cluster for example in half.examples} - {""} for half in (first, second)]
    assert ids[0] | ids[1] == {str(n) for n in range(100)} and not ids[0] & ids[1]
    assert not clusters[0] & clusters[1]
    assert 40 <= len(ids[0]) <= 60
    assert {example.id for example in halves(benchmark, seed=2)[0].examples} != ids[0]
    with pytest.raises(
        ConfigError, match=r"benchmarks.quiz: 19 independent items are too few for two halves"
    ):
        halves(PreparedBenchmark("quiz", config, examples[81:], [], ItemInterviewer()), seed=1)


ITEMS = {"gain": Items(clusters=None, subsets=None), "guard": Items(clusters=None, subsets=None)}


def scores(right, of):
    return [float(number < right) for number in range(of)]


def judged(factor, gain, guard, of=200):
    """A setting with `gain` and `guard` right answers, where the base has 100 of 200 on both."""
    base = {"gain": scores(100, of), "guard": scores(100, of)}
    return judge((factor,), {"gain": scores(gain, of), "guard": scores(guard, of)}, base, ITEMS, ["guard"])


def test_the_largest_gain_whose_guard_loss_is_bounded_is_chosen():
    settings = [judged(0.0, 100, 100), judged(0.5, 120, 101), judged(1.0, 140, 90), judged(1.25, 110, 103)]
    assert best(settings, 0.02).factors == (0.5,)
    assert best(settings, 0.5).factors == (1.0,)
    assert settings[2].gain == pytest.approx(0.2) and settings[2].guard_gain == pytest.approx(-0.05)
    assert settings[2].most_lost > 0.05


def test_of_equal_gains_the_smaller_factor_is_chosen_and_the_base_never():
    settings = [judged(0.0, 100, 100), judged(1.0, 120, 100), judged(0.5, 120, 100)]
    assert best(settings, 0.02).factors == (0.5,)
    assert best([settings[0]], 0.02) is None
    assert best(settings, 0.001) is None  # no loss among 200 items still leaves a bound of 1.5 points


def decided(given_right, best_right, of=200):
    """A decision between factor 0.5, best on the first half, and 1, by right answers of the other half."""
    finalists = {
        (factor,): {"gain": scores(right, of), "guard": scores(100, of)}
        for factor, right in ((0.0, 100), (1.0, given_right), (0.5, best_right))
    }
    merge = MergeConfig(
        adapters=[WeightedPart(path="a")], search=[0, 0.5, 1], guard=["guard"], guard_margin=0.05
    )
    return decide(judged(0.5, 130, 100), judged(1.0, 120, 100), finalists, ITEMS, merge)


def test_the_best_is_merged_only_if_the_other_half_tells_it_from_the_weights_as_given():
    better, same, worse = decided(100, 130), decided(120, 121), decided(130, 100)
    assert better.chosen == (0.5,) and "is better than the weights as given" in better.verdict
    assert same.chosen == (1.0,) and "indistinguishable on the other half" in same.verdict
    assert worse.chosen == (1.0,) and "is worse on the other half" in worse.verdict
    assert better.over_base.difference == pytest.approx(0.15)


def test_the_curve_has_a_dot_an_interval_and_a_height_for_each_factor():
    settings = [judged(0.0, 100, 100), judged(0.5, 120, 101), judged(1.0, 140, 90)]
    svg = ElementTree.fromstring(dose_response_svg(settings, 0.5, 0.02))
    dots = [node for node in svg.iter() if node.get("class") == "gain-dot"]
    heights = [float(node.get("cy")) for node in dots]
    places = [float(node.get("cx")) for node in dots]
    assert len(dots) == 3 and len([node for node in svg.iter() if node.get("class") == "guard-dot"]) == 3
    assert heights[0] > heights[1] > heights[2]  # upwards in an SVG
    assert heights[1] - heights[2] == pytest.approx(heights[0] - heights[1], abs=0.2)
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)
    chosen = next(node for node in svg.iter() if node.get("class") == "chosen")
    assert float(chosen.get("x1")) == pytest.approx(places[1], abs=0.1)


def test_intervals_of_gain_and_guard_set_dont_hide_each_other():
    settings = [judged(0.0, 100, 100), judged(0.5, 120, 101), judged(1.0, 140, 90)]
    svg = ElementTree.fromstring(dose_response_svg(settings, 0.5, 0.02))
    bars = {
        name: [float(node.get("x1")) for node in svg.iter() if node.get("class") == name and node.get("x1")]
        for name in ("gain", "guard")
    }
    assert [right - left for left, right in zip(bars["gain"], bars["guard"], strict=True)] == pytest.approx(
        [6, 6, 6], abs=0.11
    )


def test_the_table_gives_no_loss_of_the_base_and_no_negative_zero():
    settings = [judged(0.0, 100, 100), replace(judged(1.0, 120, 100), gain=-0.0001, most_lost=-0.0002)]
    lines = settings_table(settings, ["zh"], None, 0.02).text().splitlines()
    base, other = (line.split() for line in lines[-2:])
    assert base[:2] == ["0", "+0.0"] and base[-2:] == ["-", "base"]
    assert other[1] == "+0.0" and other[-1] == "0.0"


SEARCH = ("merge.adapters=[{path: zh}]", "merge.search=[0,0.5,1,1.25]", "merge.guard_margin=0.9")


def test_a_search_scores_in_one_load_and_merges_what_it_chose(run, tmp_path, caplog):
    toy_adapter(tmp_path / "zh", 0)
    folder = run("merge", *MODEL, *ASKED, *SEARCH)
    assert caplog.text.count("OpenLlamaForCausalLM from") >= 1
    report = json.loads((folder.search / "search.json").read_text())
    assert [setting["factors"] for setting in report["settings"]] == [[0.0], [0.5], [1.0], [1.25]]
    assert report["settings"][0]["gain"] == 0
    gains = {tuple(setting["factors"]): setting["gain"] for setting in report["settings"][1:]}
    assert gains[tuple(report["best"])] == max(gains.values())
    counts = report["benchmarks"]["toy_choice_en"]
    assert abs(counts["num_choosing"] - counts["num_reporting"]) <= 1
    combination = json.loads((folder.combined / "combination.json").read_text())
    assert [part["weight"] for part in combination["adapters"]] == report["chosen"]
    assert folder.merged.is_dir() and report["verdict"] in caplog.text
    ElementTree.parse(folder.search / "dose_response.svg")
    assert len((folder.search / "search.csv").read_text().splitlines()) == 5
    run("merge", *MODEL, *ASKED, *SEARCH)
    assert "search: already done" in caplog.text


def test_a_stopped_search_asks_only_what_is_missing(run, tmp_path, monkeypatch):
    toy_adapter(tmp_path / "zh", 0)
    asked = []
    values = ScoredSettings.values

    def stopping(self, factors, benchmarks):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(factors)
        return values(self, factors, benchmarks)

    monkeypatch.setattr(ScoredSettings, "values", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("merge", *MODEL, *ASKED, *SEARCH)
    monkeypatch.setattr(ScoredSettings, "values", values)
    before = {file: file.read_bytes() for file in (tmp_path / "run" / "cache").glob("*.jsonl")}
    assert len(before) >= 2
    folder = run("merge", *MODEL, *ASKED, *SEARCH)
    for file, content in before.items():
        assert file.read_bytes().startswith(content)  # answers are added, none is asked again
        prompts = [json.loads(line)["prompt"] for line in file.read_text(encoding="utf-8").splitlines()]
        assert len(set(prompts)) == len(prompts)
    alone = run("merge", *MODEL[:2], "run_dir=alone", *ASKED, *SEARCH)
    assert (folder.search / "search.csv").read_bytes() == (alone.search / "search.csv").read_bytes()


def test_a_guard_that_no_factor_keeps_is_one_line_after_the_report(run, tmp_path):
    toy_adapter(tmp_path / "zh", 0)
    margin = "merge.guard_margin=0.0001"
    with pytest.raises(
        ConfigError, match="merge.guard_margin: 0.0001, but no factor's loss on the guard set"
    ):
        run("merge", *MODEL, *ASKED, *SEARCH[:2], margin)
    report = json.loads((tmp_path / "run" / "search" / "search.json").read_text())
    assert report["chosen"] is None and len(report["settings"]) == 4
    assert not (tmp_path / "run" / "merged").exists()


def test_a_guard_that_is_not_chosen_is_refused(run):
    with pytest.raises(ConfigError, match="merge.guard: 'mmlu' is not one of the chosen benchmarks"):
        run("merge", *MODEL, "benchmark=[toy_choice_en]", *SEARCH, "merge.guard=[mmlu]")


def test_a_search_without_benchmarks_is_refused(run):
    with pytest.raises(ConfigError, match="merge.search: no benchmark to gain on"):
        run("merge", *MODEL, *SEARCH)


def test_a_metric_that_is_no_mean_over_items_is_refused_before_the_model_is_loaded(run, tmp_path, caplog):
    toy_adapter(tmp_path / "zh", 0)
    with pytest.raises(ConfigError, match="benchmarks.toy_text_zh.metrics: bits_per_byte is not a mean"):
        run("merge", *MODEL, "benchmark=[toy_text_zh]", *SEARCH)
    assert "OpenLlamaForCausalLM from" not in caplog.text


def test_two_adapters_are_searched_on_the_grid_of_their_weights(run, tmp_path):
    toy_adapter(tmp_path / "zh", 0)
    toy_adapter(tmp_path / "en", 1)
    folder = run(
        "merge", *MODEL, "benchmark=[toy_choice_en]", "merge.search=[0.5,1]", "merge.result=adapter",
        "merge.adapters=[{path: zh, weight: 0.5},{path: en}]",
    )  # fmt: skip
    report = json.loads((folder.search / "search.json").read_text())
    factors = [setting["factors"] for setting in report["settings"]]
    assert factors == [[0.0, 0.0], [0.5, 0.5], [0.5, 1.0], [1.0, 0.5], [1.0, 1.0]]
    combination = json.loads((folder.combined / "combination.json").read_text())
    weights = [part["weight"] for part in combination["adapters"]]
    assert weights == [0.5 * report["chosen"][0], report["chosen"][1]]


def test_judged_gains_are_means_over_benchmarks():
    random = np.random.default_rng(0)
    items = {name: Items(clusters=None, subsets=None) for name in "ab"}
    base, values = (
        {name: random.integers(0, 2, 50).astype(float).tolist() for name in "ab"} for _ in range(2)
    )
    setting = judge((1.0,), values, base, items, [])
    expected = np.mean([np.mean(values[name]) - np.mean(base[name]) for name in "ab"])
    assert isinstance(setting, JudgedSetting) and setting.gain == pytest.approx(expected)
    assert setting.most_lost is None and setting.guard_gain is None
