"""What is found below a folder of runs, and what is named and skipped."""

import json
import subprocess
import sys

import pytest
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.errors import ConfigError
from workbench.evaluation.contamination_report import (
    BenchmarkContamination,
    ContaminationReport,
    FoundItem,
    write_contamination,
)
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect


def test_every_run_below_the_folder_is_found_in_the_order_of_its_name(runs):
    write_run(runs / "sweep" / "a", [Spec()])
    found = collect(runs)
    assert [run.label for run in found.runs] == ["quickstart", "quickstart-0badcafe", "sweep/a"]
    assert not found.skipped
    assert found.runs[0].measured["train"]["seconds"] == 31.4
    assert len(found.runs[0].predictions("base", "toy-reading-zh")) == 120
    assert found.runs[0].predictions("base", "other") is None


def test_a_run_folder_itself_can_be_the_folder(runs):
    assert [run.label for run in collect(runs / "quickstart").runs] == ["quickstart"]


def test_results_inside_models_checkpoints_and_hidden_folders_are_not_runs(runs):
    for inside in ("merged", "checkpoints", ".quickstart.tmp"):
        write_run(runs / "quickstart" / inside, [Spec()])
    assert [run.label for run in collect(runs).runs] == ["quickstart", "quickstart-0badcafe"]


@pytest.mark.parametrize("name", ["merged", "adapter", "model", "checkpoints", "cache", "predictions"])
def test_a_run_may_be_called_like_a_folder_inside_of_a_run(runs, name):
    write_run(runs / name, [Spec()])
    write_run(runs / name / name, [Spec()])
    labels = [run.label for run in collect(runs).runs]
    assert labels == sorted([name, "quickstart", "quickstart-0badcafe"])


def test_a_run_that_lies_elsewhere_is_found_by_its_link_and_nothing_below_it(runs, tmp_path):
    write_run(tmp_path / "elsewhere" / "run", [Spec()])
    write_run(tmp_path / "elsewhere" / "run" / "inner", [Spec()])
    (runs / "linked").symlink_to(tmp_path / "elsewhere" / "run")
    (runs / "linked-folder").symlink_to(tmp_path / "elsewhere")
    (runs / "quickstart" / "circle").symlink_to(runs)
    assert [run.label for run in collect(runs).runs] == ["linked", "quickstart", "quickstart-0badcafe"]


def test_a_run_and_a_run_of_its_name_inside_of_it_are_two(tmp_path):
    write_run(tmp_path / "x", [Spec(right={"base": 0.1})], weights="ab" * 32)
    write_run(tmp_path / "x" / "x", [Spec(right={"base": 0.9})], weights="ef" * 32)
    outer, inner = (run.scores[0].value for run in collect(tmp_path / "x").runs)
    board = build(collect(tmp_path / "x"), LeaderboardConfig())
    weights = {model.key: model.facts["weights"][:2] for model in board.models}
    assert {weights[cell.model]: cell.score.value for cell in board.cells} == {"ab": outer, "ef": inner}
    assert {model.sources for model in board.models} == {(".",), ("x",)}


def test_why_the_run_of_the_boards_own_folder_failed_is_said_in_its_row(runs):
    failure = {"model": {"path": "toy"}, "reason": "out of memory"}
    (runs / "quickstart" / "failure.json").write_text(json.dumps(failure))
    board = build(collect(runs / "quickstart"), LeaderboardConfig())
    assert [model.failure for model in board.models] == ["", "", ""]
    assert all("not scored on everything: out of memory" in model.remarks for model in board.models)


def test_a_missing_folder_is_the_users_mistake(tmp_path):
    with pytest.raises(ConfigError, match="leaderboard.folder: .*/none' is not a folder"):
        collect(tmp_path / "none")


def test_a_run_whose_training_rows_have_benchmark_items_is_marked(runs):
    item = FoundItem(id="7", row="rows.jsonl:3", kind="near", share=0.9, longest=14)
    found = BenchmarkContamination(inputs="", num_items=120, num_short=0, found=[item])
    path = runs / "quickstart" / "contamination.json"
    write_contamination(path, ContaminationReport(data="", num_rows=9, benchmarks={"toy-reading-zh": found}))
    marked, other = collect(runs).runs
    assert any("contaminated" in text and "1 of 120 of toy-reading-zh" in text for text in marked.remarks)
    assert marked.contamination.benchmarks["toy-reading-zh"].found == [item]
    assert other.contamination is None and not any("contaminated" in text for text in other.remarks)

    path.write_text(path.read_text().replace("near", "verbatim"))
    assert any("contamination.json is damaged" in text for text in collect(runs).runs[0].remarks)


def edited(**changes):
    def edit(values):
        values.update(changes)

    return edit


def score_edited(**changes):
    def edit(values):
        values["scores"][0].update(changes)

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (edited(schema_version=0), "schema_version is 0 (known: 1)"),
        (edited(schema_version=2), "schema_version is 2 (known: 1)"),
        (edited(scores="none"), "not the results of a run"),
        (score_edited(value="high"), "score 1: value is 'high' (a number)"),
        (score_edited(value=float("nan")), "score 1: value is nan (a number)"),
        (score_edited(interval=[0.1]), "score 1: interval is [0.1]"),
        (score_edited(interval=[0.1, None]), "upper end of interval is None"),
        (score_edited(language=None), "score 1: language is None (text)"),
        (score_edited(subsets={"law": {"value": 1.0}}), "score 1: num_items"),
        (score_edited(subsets=["law"]), "score 1: subsets or groups"),
        (score_edited(surplus=1), "not the results of a run"),
    ],
)
def test_a_damaged_or_foreign_file_is_named_with_its_fault_and_the_others_are_shown(runs, edit, reason):
    path = runs / "quickstart" / "results.json"
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))
    found = collect(runs)
    assert [run.label for run in found.runs] == ["quickstart-0badcafe"]
    [skipped] = found.skipped
    assert skipped.path == "quickstart/results.json"
    assert reason in skipped.reason.replace("law.", "") and "\n" not in skipped.reason


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b'{"results": {"hellaswag": 0.3}}', b"null"]
)
def test_a_file_that_is_no_results_at_all_is_skipped(runs, content):
    (runs / "quickstart" / "results.json").write_bytes(content)
    [skipped] = collect(runs).skipped
    assert skipped.path == "quickstart/results.json" and "not the results of a run" in skipped.reason


def test_a_damaged_run_json_costs_only_the_measured_values(runs):
    (runs / "quickstart" / "run.json").write_text("{")
    found = collect(runs)
    assert found.runs[0].measured == {} and found.runs[0].scores


def test_reading_runs_needs_no_torch(runs):
    code = (
        "import sys; from pathlib import Path; "
        "from workbench.config.leaderboard import LeaderboardConfig; "
        "from workbench.leaderboard import build, collect, page, table; "
        "from workbench.leaderboard.outputs import model_folders, writing; "
        f"build.build(collect.collect(Path({str(runs)!r})), LeaderboardConfig()); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'hydra')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
