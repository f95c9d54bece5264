"""Items that evaluate.too_long skips, in steps that pair answers or hold them against a benchmark's items."""

import json
from pathlib import Path

import pytest
from noisy_toy import TOY, noisy_toy
from toy_adapters import toy_adapter

from workbench.run_dir import read_json
from workbench.shipped import PACKAGE

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
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
