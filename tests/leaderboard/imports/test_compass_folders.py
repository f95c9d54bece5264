"""Folders of OpenCompass as runs."""

import json

import pytest
from imported_files import ppl_entry, question, write_compass

from workbench.leaderboard.imported_runs import collect_all


def only(folder):
    collection = collect_all(folder)
    assert collection.skipped == []
    return collection.runs[0]


def test_choices_by_perplexity_become_scores_of_items(tmp_path):
    write_compass(tmp_path, {"arc": [ppl_entry(n, n < 3) for n in range(4)]})
    run = only(tmp_path)
    [score] = run.scores
    assert (score.benchmark, score.metric, score.value, score.num_items) == ("arc", "acc", 0.75, 4)
    assert score.chance == 0.25
    assert run.models["toy-hf"]["tool"] == "OpenCompass"
    first = run.predictions("toy-hf", "arc")[0]
    assert first.context == f"{question(0)}\n答案: "
    assert (first.choices, first.prediction, first.target) == (["A", "B", "C", "D"], 0, 0)


def test_subjects_are_one_benchmark_that_weights_them_alike(tmp_path):
    parts = {
        "cmmlu-law": [ppl_entry(n, 1) for n in range(2)],
        "cmmlu-art": [ppl_entry(n, n < 1, text=question(n, "b")) for n in range(4)],
    }
    write_compass(tmp_path, parts)
    [score] = only(tmp_path).scores
    assert (score.benchmark, score.average, score.value) == ("cmmlu", "macro", 0.625)
    assert set(score.subsets) == {"law", "art"}


def generated(number, text, gold):
    prompt = [{"role": "HUMAN", "prompt": question(number)}]
    return {"origin_prompt": prompt, "prediction": text, "gold": gold}


def test_generated_answers_are_right_where_the_details_say_so(tmp_path):
    entries = [generated(n, f"The answer is {n}.", str(n)) for n in range(3)]
    details = {"type": "GEN"} | {
        str(n): {"pred": str(n), "answer": str(n), "correct": n > 0} for n in range(3)
    }
    write_compass(tmp_path, {"gsm8k": entries}, totals={"gsm8k": 66.67}, details={"gsm8k": details})
    run = only(tmp_path)
    assert run.items["gsm8k"].values == {"acc": [0.0, 1.0, 1.0]}
    assert run.predictions("toy-hf", "gsm8k")[0].generation == "The answer is 0."


def test_samples_of_one_question_are_a_cluster(tmp_path):
    entries = [generated(n % 2, "x", "y") for n in range(4)]  # two questions, asked twice
    details = [{"correct": [True, False]}, {"correct": [True, True]}]
    write_compass(tmp_path, {"aime": entries}, totals={"aime": 75.0}, details={"aime": details})
    items = only(tmp_path).items["aime"]
    assert items.values["acc"] == [1.0, 1.0, 0.0, 1.0]
    assert items.clusters[0] == items.clusters[2] != items.clusters[1] == items.clusters[3]


def test_parts_of_a_large_dataset_are_put_together_in_order(tmp_path):
    entries = [ppl_entry(n, n == 0) for n in range(11)]
    write_compass(tmp_path, {"arc": entries})
    folder = tmp_path / "predictions" / "toy-hf"
    (folder / "arc.json").unlink()
    for part, entry in enumerate(entries):
        (folder / f"arc_{part}.json").write_text(json.dumps({"0": entry}))
    assert only(tmp_path).items["arc"].values["acc"] == [1.0] + [0.0] * 10


REFUSED = {
    "no numbers": (lambda path: path.write_text("[]"), "not a file of OpenCompass (no object)"),
    "a gap": (
        lambda path: path.write_text(json.dumps({"0": ppl_entry(0, 1), "2": ppl_entry(2, 1)})),
        "item 1 has no prediction (items are numbered from 0)",
    ),
    "untold": (
        lambda path: path.write_text(json.dumps({"0": generated(0, "x", "y")})),
        "which items are right isn't told (evaluate with --dump-eval-details)",
    ),
    "falsified": (
        lambda path: path.write_text(json.dumps({"0": ppl_entry(0, 0)})),
        "arc.json says accuracy 100, the items 0",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_damaged_predictions_are_refused_by_name(tmp_path, change):
    write_compass(tmp_path, {"arc": [ppl_entry(0, 1)]})
    path = tmp_path / "predictions" / "toy-hf" / "arc.json"
    damage, reason = REFUSED[change]
    damage(path)
    collection = collect_all(tmp_path)
    assert collection.runs == []
    assert [(entry.path, entry.reason) for entry in collection.skipped] == [
        ("predictions/toy-hf/arc.json", reason)
    ]
