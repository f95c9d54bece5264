"""Items that evaluate.too_long skips, in steps that pair answers or hold them against a benchmark's items."""

import json
from pathlib import Path

import pytest
from noisy_toy import TOY, noisy_toy
from toy_adapters import toy_adapter

from workbench.config.leaderboard import LeaderboardConfig
from workbench.errors import DataError
from workbench.evaluation.records import read_results
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.run_dir import read_json
from workbench.shipped import PACKAGE

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
INSTRUCT = PACKAGE / "toy/data/instruct.jsonl"
MODEL = ("model.path=${toy:base}", "quantization=none")


def long_questions(path: Path, is_long) -> tuple[str, ...]:
    """Keys of toy_choice_en with 120 items; those that `is_long` chooses are longer than 40 tokens."""
    lines = (PACKAGE / "toy/data/choice_en.jsonl").read_text("utf-8").splitlines()[:120]
    rows = [json.loads(line) for line in lines]
    for number, row in enumerate(rows):
        row["question"] = ("Look at the numbers. " * 20 if is_long(number) else "") + row["question"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    keys = ("evaluate.max_length=40", "evaluate.too_long=skip")
    return ("benchmark=[toy_choice_en]", f"benchmarks.toy_choice_en.path={path}", *keys)


def third(number: int) -> bool:
    return number % 3 == 0


def test_a_comparison_asks_only_items_that_both_models_answer(run, tmp_path):
    asked = long_questions(tmp_path / "rows.jsonl", lambda number: number % 8)  # 15 of 120 are left
    other = noisy_toy(tmp_path / "broken", 1.0)
    run_dir = run(
        "compare", f"compare.a={TOY}", f"compare.b={other}", "compare.until=decided", "run_dir=two", *asked
    )
    [decision] = json.loads((run_dir.path / "compare.json").read_text())["decisions"]
    assert decision["num_total"] == decision["num_asked"] == 15
    answers = (run_dir.path / "compare/b/toy_choice_en.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(answer)["id"] for answer in answers} == {str(n) for n in range(0, 120, 8)}


def test_a_search_pairs_the_items_that_are_answered(run, tmp_path):
    toy_adapter(tmp_path / "zh", 0)
    asked = long_questions(tmp_path / "rows.jsonl", third)
    folder = run(
        "merge", *MODEL, "run_dir=run", *asked, "merge.adapters=[{path: zh}]", "merge.search=[0,1.25]"
    )
    counts = read_json(folder.search / "search.json")["benchmarks"]["toy_choice_en"]
    assert counts["num_choosing"] + counts["num_reporting"] == 80


def test_an_audit_finds_skipped_items_in_order_and_chosen_ones_not(run, tmp_path):
    limited = (*long_questions(tmp_path / "rows.jsonl", third), "benchmarks.toy_choice_en.limit=90")
    run_dir = run("evaluate", *MODEL, "run_dir=run", *limited)
    num_answers = len(run_dir.predictions("base", "toy_choice_en").read_text("utf-8").splitlines())
    assert 50 < num_answers < 70
    audit = ("evaluate", *MODEL, "run_dir=run", *limited, "steps=[audit]", "audit.seed=1")
    run(*audit)
    [found] = read_json(run_dir.audit_json)["audits"]
    assert found["remarks"] == [] and found["num_total"] == num_answers


def test_a_quantization_report_pairs_gains_of_the_items_that_are_answered(run, tmp_path):
    toy_adapter(tmp_path / "zh", 0)
    asked = long_questions(tmp_path / "rows.jsonl", third)
    report = ("quantization_report.formats=[nf4]", "quantization_report.rounds=0")
    run_dir = run(
        "merge",
        *MODEL,
        "run_dir=run",
        "adapter.path=zh",
        *asked,
        *report,
        "quantization_report.num_texts=4",
        "benchmarks.toy_choice_en.cluster='{{ answer }}'",
        "steps=[merge,quantization_report]",
    )
    values = read_json(run_dir.quantization_json)
    assert [gain["benchmark"] for gain in values["gains"]] == ["toy_choice_en"]


def with_a_second_benchmark(path: Path) -> tuple[str, ...]:
    """Keys of toy_choice_en, each of whose 120 items is too long, and of toy_choice_zh, whose items fit."""
    keys = long_questions(path, lambda number: True)[1:]
    return ("benchmark=[toy_choice_en,toy_choice_zh]", "benchmarks.toy_choice_zh.limit=40", *keys)


def test_a_benchmark_of_which_no_item_fits_is_a_line_in_the_row_beside_the_other_scores(
    run, tmp_path, caplog
):
    asked = with_a_second_benchmark(tmp_path / "rows.jsonl")
    run_dir = run("evaluate", *MODEL, "run_dir=runs/run", *asked)
    _, scores = read_results(run_dir.results_json)
    assert {score.benchmark for score in scores} == {"toy_choice_zh"}
    assert "no item fits the 40 tokens of the context, so it gets no score (120 left out)" in caplog.text
    [model] = build(collect(tmp_path / "runs"), LeaderboardConfig()).models
    assert model.remarks == ("toy_choice_en: no item fits the model's context (120 left out)",)
    before = run_dir.results_json.read_bytes()
    caplog.clear()
    run("evaluate", *MODEL, "run_dir=runs/run", *asked)
    assert "evaluate base: already done" in caplog.text and run_dir.results_json.read_bytes() == before
    run("evaluate", *MODEL, "run_dir=runs/run", *(key for key in asked if "max_length" not in key))
    assert {score.benchmark for score in read_results(run_dir.results_json)[1]} == {
        "toy_choice_en",
        "toy_choice_zh",
    }
    [model] = build(collect(tmp_path / "runs"), LeaderboardConfig()).models
    assert model.remarks == ()


@pytest.mark.parametrize("policy", ["truncate-left", "truncate-middle"])
def test_no_item_can_be_cut_enough_for_a_short_context(run, tmp_path, policy):
    keys = [key for key in with_a_second_benchmark(tmp_path / "rows.jsonl") if "evaluate." not in key]
    instruction = "benchmarks.toy_choice_en.description=" + "Choose_well_" * 40
    run_dir = run(
        "evaluate",
        *MODEL,
        "run_dir=runs/run",
        *keys,
        instruction,
        "evaluate.max_length=40",
        f"evaluate.too_long={policy}",
    )
    assert {score.benchmark for score in read_results(run_dir.results_json)[1]} == {"toy_choice_zh"}
    assert read_json(run_dir.results_json)["models"]["base"]["unscored"] == {"toy_choice_en": 120}


def test_a_comparison_and_a_report_go_on_without_a_benchmark_of_which_no_item_fits(run, tmp_path, caplog):
    asked = with_a_second_benchmark(tmp_path / "rows.jsonl")
    other = noisy_toy(tmp_path / "broken", 1.0)
    run_dir = run(
        "compare", f"compare.a={TOY}", f"compare.b={other}", "compare.until=decided", "run_dir=two", *asked
    )
    [decision] = read_json(run_dir.path / "compare.json")["decisions"]
    assert decision["benchmark"] == "toy_choice_zh" and "no item fits the 40 tokens" in caplog.text
    report = ("quantization_report.formats=[nf4]", "quantization_report.rounds=0")
    run_dir = run("evaluate", *MODEL, "run_dir=three", *asked, *report, "steps=[quantization_report]")
    gains = read_json(run_dir.quantization_json)["formats"]
    assert [[score["benchmark"] for score in one["scores"]] for one in gains] == [["toy_choice_zh"]] * 2


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("merge", ("merge.adapters=[{path: zh}]", "merge.search=[0,1.25]")),
        (
            "sft",
            ("train.score_on=[toy_choice_en]", "train.keep=best", f"data.path={INSTRUCT}"),
        ),
    ],
)
def test_what_a_score_decides_is_refused_without_items(run, tmp_path, recipe, keys):
    toy_adapter(tmp_path / "zh", 0)
    with pytest.raises(DataError, match=r"^benchmarks\.toy_choice_en: all items are longer"):
        run(recipe, *MODEL, "run_dir=run", *with_a_second_benchmark(tmp_path / "rows.jsonl"), *keys)
