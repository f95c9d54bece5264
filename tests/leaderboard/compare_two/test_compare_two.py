"""Two results against each other, from any tool."""

import csv
import io
import json
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from imported_files import ppl_entry, question, sample, write_compass, write_harness
from leaderboard_runs import Spec, write_run
from scipy.stats import binomtest

from workbench.config.compare import CompareConfig
from workbench.errors import ConfigError
from workbench.leaderboard.compare_two import report
from workbench.leaderboard.compare_two.command import compare_results
from workbench.leaderboard.compare_two.documents import matched_documents
from workbench.leaderboard.compare_two.sides import open_side


def flags(seed, share, count=200):
    dice = random.Random(seed)
    return [float(dice.random() < share) for _ in range(count)]


def harness(folder, right, *, task="quiz", text=question, **more):
    samples = [sample(number, value, text=text(number)) for number, value in enumerate(right)]
    write_harness(folder, {task: samples}, model=f"org/{folder.name}", **more)
    return str(folder)


def compared(a, b, **more):
    return compare_results(CompareConfig(a=a, b=b, **more))


def test_difference_interval_and_p_are_those_of_scipys_binomial_test(tmp_path):
    first, second = flags(1, 0.4), flags(2, 0.6)
    [row] = compared(harness(tmp_path / "a", first), harness(tmp_path / "b", second)).rows
    gained = sum(b > a for a, b in zip(first, second, strict=True))
    lost = sum(b < a for a, b in zip(first, second, strict=True))
    flips, difference = gained + lost, (gained - lost) / 200
    expected = binomtest(gained, flips)
    share, of_flips = expected.proportion_ci(0.95), binomtest(flips, 200).proportion_ci(0.95, "wilson")
    near, far = ((2 * end - 1) * flips / 200 for end in share)
    spread = np.log(difference / near), np.log(flips / 200 / of_flips.low)
    more = far - difference, far * (of_flips.high / (flips / 200) - 1)
    assert (row.test.gained, row.test.lost, row.test.num_items) == (gained, lost, 200)
    assert row.p_adjusted == pytest.approx(expected.pvalue)
    assert row.test.low == pytest.approx(difference * np.exp(-np.hypot(*spread)), abs=1e-6)
    assert row.test.high == pytest.approx(difference + np.hypot(*more), abs=1e-6)
    assert row.verdict == "better"


def test_two_runs_of_this_project_are_compared_by_the_paths_of_their_models(tmp_path):
    write_run(tmp_path / "one", [Spec()])
    folder = tmp_path / "one" / "predictions"
    [row] = compared(str(folder / "base"), str(folder / "adapter")).rows
    assert (row.benchmark, row.verdict, row.paired_by) == ("toy-reading-zh", "better", "prompt")
    [row] = compared(str(folder / "adapter"), str(folder / "base")).rows
    assert row.verdict == "worse"


def test_a_run_of_several_models_asks_for_one_of_them(tmp_path):
    write_run(tmp_path / "one", [Spec()])
    with pytest.raises(ConfigError, match=r"compare.a: .* has results of 3 models \(name one: .*/base, "):
        compared(str(tmp_path / "one"), str(tmp_path / "one"))


def test_other_prompts_of_the_same_documents_are_paired_by_document(tmp_path):
    right = flags(1, 0.5)
    folder = harness(tmp_path / "a", right)
    order = random.Random(3).sample(range(200), 200)
    entries = [ppl_entry(number, right[number], text=f"题目：{question(number)}") for number in order]
    write_compass(tmp_path / "b", {"quiz": entries})
    [row] = compared(folder, str(tmp_path / "b")).rows
    assert (row.paired_by, row.test.num_items) == ("document", 200)
    assert (row.test.gained, row.test.lost) == (0, 0)  # a single wrong pair would flip some
    assert any("paired by document" in note for note in row.notes)


def test_other_documents_are_not_paired(tmp_path):
    first = harness(tmp_path / "a", flags(1, 0.5, 30))
    second = harness(
        tmp_path / "b",
        flags(2, 0.5, 30),
        text=lambda n: f"Who wrote the book that has {n * 13 + 5} pages and a map?",
    )
    comparison = compared(first, second)
    assert comparison.rows == []
    assert comparison.left_out == {"quiz": "no item in common, neither by prompt nor by document"}


def test_documents_that_differ_in_one_number_are_told_apart(tmp_path):
    def text(number):
        return f"How much is {number} times 17?"

    folder = harness(tmp_path / "a", flags(1, 0.5, 60), text=text)
    predictions = open_side(folder, "a").predictions("quiz")
    moved = [replace(one, context=f"Q:\n{one.context}") for one in reversed(predictions)]
    assert matched_documents(predictions, moved) == [(index, 59 - index) for index in range(60)]


def test_common_items_alone_are_compared_and_counted(tmp_path):
    [row] = compared(
        harness(tmp_path / "a", flags(1, 0.5)), harness(tmp_path / "b", flags(2, 0.5)[:150])
    ).rows
    assert (row.test.num_items, row.num_first, row.num_second) == (150, 200, 150)
    assert "150 items in common, of 200 and 150" in row.notes


def test_damage_in_one_subject_is_named(tmp_path):
    def group(folder, art):
        tasks = {
            "law": [sample(n, 1.0 - n % 2) for n in range(400)],
            "art": [sample(n, art * (n % 3 > 0), text=question(n, "b")) for n in range(100)],
        }
        law, arts = 0.5, art * sum(n % 3 > 0 for n in range(100)) / 100
        totals = {"acc,none": (law + arts) / 2}
        groups = {"exam": {"tasks": ["law", "art"], "totals": totals}}
        write_harness(folder, tasks, model=f"org/{folder.name}", groups=groups)
        return str(folder)

    [row] = compared(group(tmp_path / "a", 1.0), group(tmp_path / "b", 0.0)).rows
    assert {subject.name: subject.verdict for subject in row.subjects} == {
        "law": "no difference shown",
        "art": "worse",
    }
    assert row.first == pytest.approx((0.5 + 0.66) / 2)


def test_a_p_value_too_small_for_a_number_is_zero_and_not_one(tmp_path):
    sides = []
    for name, right in (("a", 0.0), ("b", 1.0)):
        tasks = {
            task: [sample(n, right, text=question(n, task)) for n in range(count)]
            for task, count in (("law", 1200), ("art", 20))
        }
        groups = {"exam": {"tasks": list(tasks), "totals": {"acc,none": right}}}
        write_harness(tmp_path / name, tasks, model=f"org/{name}", groups=groups)
        sides.append(str(tmp_path / name))
    [row] = compared(*sides).rows
    found = {subject.name: subject for subject in row.subjects}
    assert (found["law"].verdict, found["law"].p_adjusted) == ("better", 0.0)
    assert 0 < found["art"].p_adjusted < 0.001


def test_more_benchmarks_widen_the_intervals(tmp_path):
    first, second = flags(1, 0.4), flags(2, 0.6)
    paths = []
    for name, right in (("a", first), ("b", second)):
        tasks = {
            task: [sample(n, value, text=question(n, task)) for n, value in enumerate(right)]
            for task in ("one", "two", "three")
        }
        write_harness(tmp_path / name, tasks, model=f"org/{name}")
        paths.append(str(tmp_path / name))
    alone = compared(*paths, benchmarks=["two"]).rows
    together = compared(*paths).rows
    [two] = [row for row in together if row.benchmark == "two"]
    assert len(together) == 3
    assert two.p_adjusted == pytest.approx(3 * alone[0].p_adjusted)
    assert two.test.low < alone[0].test.low


def test_an_unknown_benchmark_is_refused_with_those_of_both(tmp_path):
    folder = harness(tmp_path / "a", flags(1, 0.5))
    with pytest.raises(ConfigError, match="'mmlu' is not in both"):
        compared(folder, folder, benchmarks=["mmlu"])


def test_written_files_say_what_is_printed(tmp_path):
    first = harness(tmp_path / "a", flags(1, 0.4))
    second = harness(tmp_path / "b", flags(2, 0.6))
    comparison = compared(first, second)
    json_path, csv_path = report.write(comparison, tmp_path / "out")
    [values] = json.loads(json_path.read_text())["comparisons"]
    [line] = csv.DictReader(io.StringIO(csv_path.read_text()))
    assert values["verdict"] == line["verdict"] == "better"
    assert float(line["difference"]) == values["difference"] == comparison.rows[0].test.difference
    assert "better" in report.text(comparison)


@pytest.mark.parametrize("formula", ["=1", "＝1"])
def test_names_are_text_in_every_output(tmp_path, formula):
    name = f"{formula}+1|\x1b[31m<b>\nx"
    write_harness(tmp_path / "a", {"quiz": [sample(0, 1.0)]}, model=name)
    comparison = compared(str(tmp_path / "a"), str(tmp_path / "a"))
    assert "\x1b" not in report.text(comparison)
    [line] = csv.DictReader(io.StringIO(report.as_csv(comparison)))
    assert line["model_a"].startswith(f"'{formula}")
    assert "\x1b" not in line["model_a"]


def test_the_command_takes_a_and_b_and_loads_no_torch(tmp_path):
    first = harness(tmp_path / "a", flags(1, 0.4))
    second = harness(tmp_path / "b", flags(2, 0.6))
    code = "import sys; from workbench.cli import main; main(); assert 'torch' not in sys.modules"
    words = ["recipe=compare", f"a={first}", f"b={second}"]
    found = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "exact McNemar test" in found.stdout


def test_a_score_of_which_less_is_better_is_not_in_percent_and_less_of_it_is_a_gain(tmp_path):
    values = [[start + number % 8 / 100 for number in range(40)] for start in (0.9, 0.8)]
    folders = []
    for name, own in zip("ab", values, strict=True):
        samples = [
            sample(number, 1, text=question(number), metrics={"brier_score": value})
            for number, value in enumerate(own)
        ]
        write_harness(tmp_path / name, {"quiz": samples}, model=f"org/{name}")
        folders.append(str(tmp_path / name))
    found = compared(*folders)
    [row] = found.rows
    assert (row.is_share, row.gained, row.lost, row.verdict) == (False, 40, 0, "better")
    [line] = [line for line in report.text(found).splitlines() if line.startswith("quiz")]
    assert line.split()[2:5] == [f"{np.mean(values[0]):.4g}", f"{np.mean(values[1]):.4g}", "-0.1"]


DATES = ["2026-01-01T00-00-00.000001", "2026-01-02T00-00-00.000001"]


def test_two_results_files_of_one_folder_are_compared_as_named(tmp_path):
    rights = [
        [float(number % 4 == 0) for number in range(60)],
        [float(number % 4 > 0) for number in range(60)],
    ]
    for right, date in zip(rights, DATES, strict=True):
        harness(tmp_path / "lm", right, date=date)
    older, newer = (str(tmp_path / "lm" / f"results_{date}.json") for date in DATES)
    [row] = compared(older, newer).rows
    assert (row.first, row.second, row.verdict) == (0.25, 0.75, "better")
    [row] = compared(newer, older).rows
    assert (row.first, row.second, row.verdict) == (0.75, 0.25, "worse")


def test_another_file_beside_several_results_files_is_refused(tmp_path):
    for date in DATES:
        harness(tmp_path / "lm", [1.0], date=date)
    samples = tmp_path / "lm" / f"samples_quiz_{DATES[0]}.jsonl"
    with pytest.raises(
        ConfigError, match=r"compare.a: .*samples_quiz.* is beside 2 results files \(name one: "
    ):
        open_side(str(samples), "compare.a")


def test_a_benchmark_with_an_unscored_item_is_left_out_and_the_others_are_compared(tmp_path):
    write_run(tmp_path / "one", [Spec(name="quiz"), Spec(name="whole")])
    folder = tmp_path / "one" / "predictions"
    file = folder / "adapter" / "quiz.jsonl"
    lines = file.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {"scores": {"em": 1.0}})
    file.write_text("\n".join(lines) + "\n")
    comparison = compared(str(folder / "base"), str(folder / "adapter"))
    assert [row.benchmark for row in comparison.rows] == ["whole"]
    assert comparison.left_out["quiz"] == "item '3' of b has no score of acc"
