"""An endpoint is verified by the folder of a run alone: the command names neither benchmarks nor settings."""

import logging
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from workbench import cli
from workbench.errors import ConfigError, DataError
from workbench.run_dir import RunDir, read_json
from workbench.shipped import PACKAGE

EVALUATE = ("steps=[evaluate]", f"model.path={PACKAGE / 'toy' / 'base'}", "model.dtype=float32")
ONE = ("benchmark=[toy_exact_en]", "benchmarks.toy_exact_en.limit=6")
OWN = """# @package benchmarks.mine
path: {path}
limit: 6
language: en
output_type: multiple_choice
question: "{{{{ question }}}}"
choices_from: choices
target: "{{{{ answer }}}}"
metrics: [acc]
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs `python -m workbench ...` in a folder of its own, in this process; errors are raised."""
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_FULL_ERROR", cli.TRACEBACK):
        monkeypatch.setenv(name, "1")
    log = logging.getLogger("workbench")
    before = (log.handlers[:], log.level, log.propagate)

    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        GlobalHydra.instance().clear()
        try:
            cli.main()
        except SystemExit as end:
            return str(end.code)
        return ""

    yield command
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture
def verified(command, served):
    """Verifies the served base against the run in a folder, which alone is named; returns the report."""

    def verified(folder: Path | str, *words: str) -> dict:
        asked = f"model.endpoint={served.url}"
        assert command("recipe=verify-endpoint", f"run_dir={folder}", asked, "audit.seed=1", *words) == ""
        return read_json(RunDir(Path(folder)).verify_endpoint_json)

    return verified


def test_the_benchmarks_that_the_run_was_scored_on_are_asked(command, verified):
    assert command("recipe=evaluate", *EVALUATE, *ONE, "run_dir=runs/one") == ""
    report = verified("runs/one")
    assert report["equal"] and (report["gaps"]["num_items"], report["gaps"]["num_texts"]) == (6, 6)
    assert command("recipe=audit", "run_dir=runs/one", "audit.seed=1") == ""
    assert read_json(RunDir(Path("runs/one")).audit_json)["audits"][0]["num_equal"] == 6


def test_each_run_of_a_sweep_is_asked_as_it_was_scored(command, verified):
    assert command("-m", "recipe=evaluate", *EVALUATE, *ONE, "seed=1,2") == ""
    folders = sorted(file.parent for file in Path("runs").glob("*/config.yaml"))
    assert len(folders) == 2
    for folder in folders:
        report = verified(folder)
        assert report["equal"] and report["gaps"]["num_items"] == 6


def test_a_benchmark_and_a_recipe_of_ones_own_are_asked(command, verified, tmp_path):
    (tmp_path / "conf" / "benchmark").mkdir(parents=True)
    rows = PACKAGE / "toy" / "data" / "choice_en.jsonl"
    (tmp_path / "conf" / "benchmark" / "mine.yaml").write_text(OWN.format(path=rows), "utf-8")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.yaml").write_text(
        "steps: [evaluate]\ndefaults:\n  - override /benchmark: [mine]\nevaluate:\n  batch_tokens: 512\n"
    )
    assert command("recipe=own", *EVALUATE[1:], "run_dir=runs/own") == ""
    report = verified("runs/own")
    assert report["equal"] and report["gaps"]["num_items"] == 6 and report["gaps"]["num_likelihoods"] >= 12


def test_benchmarks_that_a_later_command_scored_are_asked(command, verified):
    assert command("recipe=evaluate", *EVALUATE, *ONE, "run_dir=runs/one") == ""
    later = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=5")
    assert command("recipe=evaluate", "steps=[evaluate]", "run_dir=runs/one", *later) == ""
    report = verified("runs/one")
    assert report["equal"] and (report["gaps"]["num_items"], report["gaps"]["num_texts"]) == (11, 6)
    chosen = verified("runs/one", "benchmark=[toy_choice_en]")
    assert chosen["equal"] and (chosen["gaps"]["num_items"], chosen["gaps"]["num_texts"]) == (5, 0)


SEVERAL = (
    "benchmarks.toy_exact_en.generation.max_new_tokens=3,9",
    "benchmarks.toy_exact_en.description=Briefly.",
)


def test_scores_of_a_sweep_in_one_folder_are_asked_with_their_own_settings(command, verified):
    """config.yaml has the settings of the sweep's first run, the scores those of its last one."""
    assert command("-m", "recipe=evaluate", *EVALUATE, *ONE, *SEVERAL, "run_dir=runs/one") == ""
    assert "max_new_tokens: 3" in Path("runs/one/config.yaml").read_text("utf-8")
    settings = read_json(Path("runs/one/run.json"))["steps"]["evaluate/base/toy_exact_en"]["settings"]
    benchmark = settings["benchmark"]
    assert (benchmark["generation"]["max_new_tokens"], benchmark["limit"]) == (9, 6)
    assert benchmark["output_type"] == "generation" and "hub" not in benchmark
    assert settings["evaluate"] == {}
    report = verified("runs/one")
    assert report["equal"] and (report["gaps"]["num_items"], report["gaps"]["num_other_prompts"]) == (6, 0)
    assert command("recipe=audit", "run_dir=runs/one", "audit.seed=1") == ""


@pytest.mark.parametrize("system", ["${oc.env:SYSTEM}", r"Pay \${x} ***"])
def test_a_text_of_the_environment_or_with_a_dollar_sign_is_asked_again(command, monkeypatch, system):
    """run.json has *** for the first, and config.yaml its name."""
    monkeypatch.setenv("SYSTEM", "a-secret-way-to-answer")
    asked = (f"evaluate.system='{system}'", "run_dir=runs/one")
    assert command("recipe=evaluate", *EVALUATE, *ONE, *asked) == ""
    assert "a-secret-way" not in Path("runs/one/run.json").read_text("utf-8")
    assert command("recipe=audit", "run_dir=runs/one", "audit.seed=1") == ""


def test_scores_of_different_settings_are_asked_one_benchmark_at_a_time(command, verified):
    assert command("recipe=evaluate", *EVALUATE, *ONE, "run_dir=runs/one") == ""
    later = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=5", "evaluate.system=Be brief.")
    assert command("recipe=evaluate", "steps=[evaluate]", "run_dir=runs/one", *later) == ""
    told = r"evaluate\.system='' \(base on toy_exact_en\) and 'Be brief\.' \(base on toy_choice_en\)"
    with pytest.raises(ConfigError, match=told):
        command("recipe=audit", "run_dir=runs/one")
    for name, count in (("toy_exact_en", 6), ("toy_choice_en", 5)):
        report = verified("runs/one", f"benchmark=[{name}]")
        assert report["equal"] and report["gaps"]["num_items"] == count
    forced = ("evaluate.system=Be brief.", "benchmark=[toy_exact_en,toy_choice_en]")
    with pytest.raises(DataError, match="differ"):  # the first one had none
        command("recipe=audit", "run_dir=runs/one", *forced)
