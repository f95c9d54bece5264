"""`model.compile` gives a run the same results up to rounding, and scores of its own."""

import json
import shutil

import pytest

from workbench.models.ops import fused

pytestmark = [
    pytest.mark.skipif(
        not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="torch.compile needs a C++ compiler"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),  # torch's own use of its script_method
]
SHORT = (
    "quantization=none",
    "train.max_steps=4",
    "train.logging_steps=1",
    "data.limit=16",
    "benchmark=[toy_choice_en]",
    "benchmarks.toy_choice_en.limit=8",
    "train.sample_answers=0",
)


@pytest.fixture(autouse=True)
def compiler_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "inductor"))
    yield
    fused.enable_compiled(False)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder.path / "train.jsonl").read_text().splitlines()]


def scores(folder):
    stored = json.loads(folder.results_json.read_text())["scores"]
    return {score["model"]: (score["value"], score["num_items"]) for score in stored}


def test_losses_and_scores_are_those_of_a_plain_run_and_scored_anew(run, caplog):
    plain = run("quickstart", *SHORT, "steps=[train,evaluate]", "run_dir=plain")
    assert "compiled" not in caplog.text
    compiled = run("quickstart", *SHORT, "steps=[train,evaluate]", "model.compile=true", "run_dir=compiled")
    assert ", compiled" in caplog.text
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4) and len(losses(plain)) == 4
    assert scores(compiled) == scores(plain) and len(scores(plain)) == 2
    caplog.clear()
    run("quickstart", *SHORT, "steps=[evaluate]", "model.compile=true", "run_dir=plain")
    assert ", compiled" in caplog.text  # the stored scores were made without it


def test_another_kernel_scores_a_benchmark_anew_and_leaves_the_scores_on_others(run, caplog):
    two = ("benchmark=[toy_choice_en,toy_exact_en]", "benchmarks.toy_exact_en.limit=4")
    folder = run("quickstart", *SHORT, *two, "steps=[train,evaluate]", "run_dir=plain")
    before = json.loads(folder.results_json.read_text())
    caplog.clear()
    run("quickstart", *SHORT, "steps=[evaluate]", "model.fused=false", "run_dir=plain")
    assert "model.fused off" in caplog.text  # scored anew
    after = json.loads(folder.results_json.read_text())
    assert len(after["scores"]) == len(before["scores"]) == 4
    assert [score["benchmark"] for score in after["scores"]] == [s["benchmark"] for s in before["scores"]]
    caplog.clear()
    run("quickstart", *SHORT, *two, "steps=[evaluate]", "model.fused=false", "run_dir=plain")
    assert json.loads(folder.results_json.read_text())["models"] == after["models"]
