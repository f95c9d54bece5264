"""A run with several answers to an item: its results, predictions, table and board have them."""

import csv
import io
import json
from pathlib import Path

import pytest
from noisy_toy import TOY, noisy_toy

from workbench.evaluation.records import read_predictions, read_results
from workbench.shipped import PACKAGE


def test_several_answers_to_an_item_reach_the_table_and_the_board(run, capsys):
    own = (f"model.path={PACKAGE / 'toy' / 'base'}", "benchmark=[toy_exact_en]", "run_dir=runs/drawn")
    few = ("benchmarks.toy_exact_en.limit=4", "evaluate.samples=3", "evaluate.temperature=0.7")
    folder = run("evaluate", *own, *few, "steps=[evaluate,leaderboard]")
    scores = {score.metric: score for score in read_results(folder.results_json)[1]}
    mean = scores["exact_match"]
    assert (mean.num_samples, mean.num_items, mean.texts["texts"]) == (3, 4, 12)
    predictions = read_predictions(folder.predictions("base", "toy_exact_en"))
    assert all(len(prediction.samples) == 3 for prediction in predictions)
    values = {name: 100 * scores[f"exact_match,{name}"].value for name in ("maj@3", "pass@2", "pass@3")}
    told = " · ".join(f"{name} {value:.1f}" for name, value in values.items())
    assert f"base gives 3 answers an item: {told}" in " ".join(capsys.readouterr().out.split())
    [row] = csv.DictReader(io.StringIO(Path("runs/leaderboard.csv").read_text("utf-8")))
    assert row["answers_per_item"] == "3" and float(row["value"]) == mean.value
    assert "exact_match,maj@3" in json.dumps(json.loads(Path("runs/leaderboard.json").read_text("utf-8")))


def test_models_of_several_answers_an_item_are_compared_until_they_are_decided(run, tmp_path):
    """Both models answer as they do without a comparison, and an item's score is the mean of its answers."""
    other = noisy_toy(tmp_path / "noisy", 0.5)
    drawn = ("evaluate.samples=3", "evaluate.temperature=0.7", "benchmark=[toy_exact_en]")
    sides = (f"compare.a={TOY}", f"compare.b={other}", "compare.until=decided")
    folder = run("compare", *sides, *drawn, "run_dir=runs/two", "benchmarks.toy_exact_en.limit=20")
    [decision] = json.loads((folder.path / "compare.json").read_text())["decisions"]
    assert decision["num_asked"] == 20
    means = []
    for label, path in (("a", TOY), ("b", other)):
        own = (f"model.path={path}", f"run_dir=runs/{label}", "benchmarks.toy_exact_en.limit=20")
        alone = run("evaluate", *own, *drawn, "steps=[evaluate]")
        scores = {s.metric: s.value for s in read_results(alone.results_json)[1]}
        means.append(scores["exact_match"])
        by_id = {p.id: p for p in read_predictions(alone.predictions("base", "toy_exact_en"))}
        asked = read_predictions(folder.path / "compare" / label / "toy_exact_en.jsonl")
        assert {p.id: p.samples for p in asked} == {p.id: p.samples for p in by_id.values()}
    assert decision["difference"] == pytest.approx(means[1] - means[0])
