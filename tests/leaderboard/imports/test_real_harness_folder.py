"""A folder that lm-evaluation-harness itself has written, as a run."""

import importlib.util
import json
from pathlib import Path

import pytest

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.build import build
from workbench.leaderboard.imported_runs import collect_all

FIXTURE = Path(__file__).parents[2] / "fixtures" / "lm_eval"


def check(folder: Path) -> None:
    """Check that an import has the harness's own totals, and that they are those of the items."""
    [path] = folder.glob("results_*.json")
    reported = json.loads(path.read_text(encoding="utf-8"))
    collection = collect_all(folder)
    [run] = collection.runs
    assert collection.skipped == [] and build(collection, LeaderboardConfig()).alarms == ()
    totals = {
        (name, key): total
        for name, values in (reported["results"] | reported["groups"]).items()
        for key, total in values.items()
        if isinstance(total, float) and "_stderr" not in key and name not in ("own_law", "own_art")
    }
    found = {(score.benchmark, score.metric): score.value for score in run.scores}
    found = {(name, key if "," in key else f"{key},none"): value for (name, key), value in found.items()}
    assert found == pytest.approx(totals) and len(found) >= 5
    assert {score.benchmark: score.num_items for score in run.scores} == {
        "own_exam": 14,
        "own_text": 9,
        "own_write": 9,
    }
    [model] = run.models.values()
    assert model["tool"] == "lm-evaluation-harness 0.4.13" and model["dtype"] == "float32"


def test_a_folder_of_the_harness_has_its_totals_and_every_item():
    check(FIXTURE)


def test_prompts_have_their_few_shot_examples_and_choices_their_log_likelihoods():
    [run] = collect_all(FIXTURE).runs
    [name] = run.models
    first = run.predictions(name, "own_exam")[0]
    assert first.id == "own_law/0" and first.context.count("Answer:") == 3
    assert len(first.choices) == len(first.loglikelihoods) == 3
    assert first.prediction == first.loglikelihoods.index(max(first.loglikelihoods))
    assert first.scores["acc"] == float(first.prediction == first.target)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_the_installed_harness_writes_now_is_imported_alike(tmp_path):
    pytest.importorskip("lm_eval")
    spec = importlib.util.spec_from_file_location("make_harness_folder", FIXTURE / "make.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    check(made.make(tmp_path))
