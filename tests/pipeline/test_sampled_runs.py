"""A run with several answers to an item: its results, predictions, table and board have them."""

import csv
import io
import json
from pathlib import Path

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
