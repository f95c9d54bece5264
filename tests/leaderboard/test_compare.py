"""Differences between the models of a run, and what is said about them."""

import math
from dataclasses import replace

import pytest
from leaderboard_runs import Spec, answers, write_run

from workbench.evaluation.records import (
    ITEM_ALONE,
    read_predictions,
    read_results,
    write_predictions,
    write_results,
)
from workbench.leaderboard import formatting
from workbench.leaderboard.collect import collect
from workbench.leaderboard.compare import compare
from workbench.leaderboard.view_model import is_share
from workbench.statistics.family import holm
from workbench.statistics.intervals import mean
from workbench.statistics.paired import compare_paired


def view_of(folder, *specs, **options):
    write_run(folder / "run", list(specs), **options)
    return compare(collect(folder)).runs[0]


def test_the_difference_is_paired_item_by_item(tmp_path):
    spec = Spec()
    [row] = view_of(tmp_path, spec).rows
    first = [one.scores["acc"] for one in answers(spec, "base")]
    second = [one.scores["acc"] for one in answers(spec, "adapter")]
    expected = compare_paired(first, second)
    assert row.difference.value == pytest.approx(row.scores["adapter"].value - row.scores["base"].value)
    assert row.difference.interval == (expected.low, expected.high)
    assert row.difference.p_value == expected.p_value and row.difference.test == "mcnemar-exact"
    assert (row.difference.wins, row.difference.losses) == (expected.gained, expected.lost)
    assert row.difference.verdict == "better"
    assert list(row.scores) == ["base", "adapter", "merged"]


@pytest.mark.parametrize(
    ("adapter", "verdict"), [(0.9, "better"), (0.5, "no difference shown"), (0.1, "worse")]
)
def test_a_plain_word_says_what_was_shown(adapter, verdict, tmp_path):
    [row] = view_of(tmp_path, Spec(right={"base": 0.5, "adapter": adapter})).rows
    assert row.difference.verdict == verdict


@pytest.mark.parametrize("metric", ["answer_loss", "evaluate-metric/wer", "brier_score,first"])
@pytest.mark.parametrize(("adapter", "verdict"), [(0.9, "worse"), (0.1, "better")])
def test_of_a_loss_or_error_rate_the_smaller_one_is_better(adapter, verdict, metric, tmp_path):
    [row] = view_of(tmp_path, Spec(right={"base": 0.5, "adapter": adapter}, metric=metric)).rows
    found = row.difference
    assert found.verdict == verdict and (found.value < 0) == (verdict == "better") and not row.is_share
    assert (found.wins > found.losses) == (verdict == "better")
    for sample in row.gained:
        assert sample.second.scores[metric] < sample.first.scores[metric]
    assert row.gained and row.lost


def test_p_values_are_corrected_over_the_benchmarks_of_the_run(tmp_path):
    levels = (0.44, 0.48, 0.52, 0.56, 0.6, 0.9)
    specs = [Spec(name=f"b{level}", right={"base": 0.4, "adapter": level}) for level in levels]
    rows = view_of(tmp_path, *specs).rows
    raw = [row.difference.p_value for row in rows]
    assert [row.difference.adjusted_p_value for row in rows] == holm(raw)
    assert any(p < 0.05 <= q for p, q in zip(raw, holm(raw), strict=True))
    for row in rows:
        assert (row.difference.verdict == "no difference shown") == (row.difference.adjusted_p_value >= 0.05)


def test_a_macro_average_has_a_macro_difference(tmp_path):
    spec = Spec(subsets=("法学", "法学", "医学"), average="macro", num_items=90)
    [row] = view_of(tmp_path, spec).rows
    expected = row.scores["adapter"].value - row.scores["base"].value
    assert row.difference.value == pytest.approx(expected)
    assert row.difference.interval[0] < expected < row.difference.interval[1]


def test_only_items_with_the_same_prompt_are_paired_and_the_others_are_counted(tmp_path):
    spec = Spec()
    files = write_run(tmp_path / "run", [spec])
    path = files.predictions("base", spec.name)
    changed = read_predictions(path)
    changed[7] = replace(changed[7], prompt_hash="f" * 16)
    write_predictions(path, changed[:100])
    [row] = compare(collect(tmp_path)).runs[0].rows
    assert (row.difference.num_items, row.difference.num_unpaired) == (99, 21)
    assert row.problem == "21 unpaired items are left out of the difference"
    both = [(a, b) for a, b in zip(changed[:100], answers(spec, "adapter"), strict=False) if a.id != "7"]
    difference = mean([b.scores["acc"] - a.scores["acc"] for a, b in both])
    assert row.difference.value == pytest.approx(difference)


def test_flips_between_adapter_and_merged_are_counted(tmp_path):
    spec = Spec()
    files = write_run(tmp_path / "run", [spec])
    path = files.predictions("merged", spec.name)
    changed = read_predictions(path)
    for number in (3, 9):
        changed[number] = replace(changed[number], prediction=99, scores={"acc": 0.0})
    write_predictions(path, changed)
    [row] = compare(collect(tmp_path)).runs[0].rows
    assert (row.flips.answers, row.flips.num_items) == (2, 120)
    assert row.flips.scores == sum(answers(spec, "adapter")[n].scores["acc"] for n in (3, 9))


def test_an_untrained_head_is_replaced_by_the_majority_class_as_reference(tmp_path):
    spec = Spec(note={"base": "untrained head"})
    view = view_of(tmp_path, spec)
    [row] = view.rows
    targets = [one.target for one in answers(spec, "adapter")]
    most = max(targets.count(label) for label in set(targets)) / len(targets)
    assert row.difference.reference == "majority class"
    assert row.difference.value == pytest.approx(row.scores["adapter"].value - most)
    assert not row.gained and not row.lost
    assert "base" not in view.means["zh"]


def test_samples_are_items_that_the_trained_model_gained_or_lost(tmp_path):
    [row] = view_of(tmp_path, Spec()).rows
    assert len(row.gained) == 3
    for sample in row.gained:
        assert sample.first.id == sample.second.id
        assert (sample.first.scores["acc"], sample.second.scores["acc"]) == (0.0, 1.0)
    assert all(sample.second.scores["acc"] == 0.0 for sample in row.lost)


def test_means_count_every_benchmark_the_same_and_only_shares(tmp_path):
    view = view_of(
        tmp_path,
        Spec(num_items=50),
        Spec(name="b", num_items=150),
        Spec(name="ppl", metric="byte_perplexity"),
        Spec(name="c", language="en"),
    )
    values = [row.scores["adapter"].value for row in view.rows[:2]]
    mean = view.means["zh"]["adapter"]
    assert mean.value == pytest.approx(sum(values) / 2) and mean.num_benchmarks == 2
    errors = [row.scores["adapter"].stderr for row in view.rows[:2]]
    assert mean.interval[1] - mean.value == pytest.approx(1.96 * math.hypot(*errors) / 2, rel=1e-3)
    assert view.gains["zh"].num_benchmarks == 2 and view.gains["en"].num_benchmarks == 1


def test_a_metric_that_is_no_mean_has_a_difference_without_an_interval(tmp_path):
    spec = Spec(metric="macro_f1")
    files = write_run(tmp_path / "run", [spec])
    facts, scores = read_results(files.results_json)
    scores = [replace(score, value=score.value - 0.1) for score in scores]
    write_results(files.results_json, facts, scores)
    [row] = compare(collect(tmp_path)).runs[0].rows
    assert row.difference.interval is None and row.difference.detectable is None
    assert row.difference.value == pytest.approx(scores[1].value - scores[0].value)
    assert row.difference.verdict == "better"


def test_a_falling_perplexity_is_better(tmp_path):
    spec = Spec(metric="byte_perplexity", num_items=40)
    files = write_run(tmp_path / "run", [spec])
    facts, scores = read_results(files.results_json)
    for model, value, level in (("base", 3.0, -60.0), ("adapter", 2.0, -40.0)):
        path = files.predictions(model, spec.name)
        told = [
            replace(one, scores={"byte_perplexity": level - number % 7})
            for number, one in enumerate(read_predictions(path))
        ]
        write_predictions(path, told)
        scores = [replace(s, value=value) if s.model == model else s for s in scores]
    write_results(files.results_json, facts, scores)
    [row] = compare(collect(tmp_path)).runs[0].rows
    assert row.difference.value == -1.0 and row.difference.verdict == "better"
    assert row.difference.test == "sign-flip-exact"


def test_a_rising_error_rate_of_all_texts_together_is_worse(tmp_path):
    spec = Spec(right={"base": 0.1, "adapter": 0.9}, metric="evaluate-metric/cer")
    files = write_run(tmp_path / "run", [spec])
    facts, scores = read_results(files.results_json)
    values = {"base": 0.2, "adapter": 0.8}
    scores = [replace(s, value=values[s.model], item_score=f"cer {ITEM_ALONE}") for s in scores]
    write_results(files.results_json, facts, scores)
    [row] = compare(collect(tmp_path)).runs[0].rows
    assert row.difference.value == pytest.approx(0.6) and row.difference.verdict == "worse"
    assert row.difference.losses > row.difference.wins


@pytest.mark.parametrize(
    ("metric", "protocol", "expected"),
    [
        ("acc", "default", True),
        ("bleu", "lm-eval", True),
        ("bleu", "lm-eval 0.4.13", False),
        ("chrf,strict", "lm-eval 0.4.13", False),
        ("folder/wer.py", "default", False),
        ("word_perplexity,strict", "lm-eval 0.4.13", False),
        ("mcc", "default", False),
    ],
)
def test_only_metrics_from_0_to_1_of_which_more_is_better_are_shares(metric, protocol, expected):
    assert is_share(metric, protocol) is expected


def test_missing_or_damaged_predictions_cost_only_the_difference(tmp_path):
    specs = [Spec(), Spec(name="b"), Spec(name="c")]
    files = write_run(tmp_path / "run", specs)
    files.predictions("base", "toy-reading-zh").unlink()
    files.predictions("adapter", "b").write_text('{"schema_version": 1, "id":')
    rows = compare(collect(tmp_path)).runs[0].rows
    assert [row.difference is None for row in rows] == [True, True, False]
    assert rows[0].problem == "the predictions of the base are missing" and rows[0].flips is not None
    assert "predictions can't be read" in rows[1].problem and ":1: not a prediction" in rows[1].problem
    assert rows[1].scores["adapter"].value > 0
    assert str(tmp_path) not in rows[1].problem


def test_a_run_that_was_scored_with_one_model_only_is_shown(tmp_path):
    view = view_of(tmp_path, Spec(right={"base": 0.4}))
    assert view.rows[0].difference is None and view.rows[0].problem == ""
    assert view.means["zh"]["base"].value == view.rows[0].scores["base"].value


def test_models_scored_by_different_rules_are_not_compared(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    about, scores = read_results(files.results_json)
    changed = [replace(one, rule=f"{one.model == 'base'}") for one in scores]
    write_results(files.results_json, about, changed)
    view = compare(collect(tmp_path)).runs[0]
    assert view.rows[0].difference is None and "different rules" in view.rows[0].problem
    assert view.means == {"zh": {}} and view.gains == {}


def test_models_scored_on_other_items_have_no_mean_together(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    about, scores = read_results(files.results_json)
    changed = [replace(one, prompts=one.model, num_items=3 if one.model == "base" else 120) for one in scores]
    write_results(files.results_json, about, changed)
    view = compare(collect(tmp_path)).runs[0]
    assert view.means == {"zh": {}}
    assert formatting.items(view.rows[0]) == "3 to 120"


def test_the_mean_of_benchmarks_that_were_all_wrong_is_not_certain(tmp_path):
    right = {"base": 0.0, "adapter": 0.0}
    view = view_of(
        tmp_path, Spec(name="a", right=right, num_items=3), Spec(name="b", right=right, num_items=3)
    )
    low, high = view.means["zh"]["base"].interval
    assert low == 0 and high > 0.1


def test_means_and_gains_are_of_the_same_benchmarks(tmp_path):
    both = {"base": 0.2, "adapter": 0.8}
    view = view_of(tmp_path, Spec(name="a", right=both | {"merged": 0.8}), Spec(name="b", right=both))
    means = view.means["zh"]
    assert view.gains["zh"].value == pytest.approx(means["adapter"].value - means["base"].value)
    assert view.gains["zh"].num_benchmarks == 1


def test_intervals_are_shown_with_their_own_coverage(tmp_path):
    files = write_run(tmp_path / "run", [Spec()])
    about, scores = read_results(files.results_json)
    write_results(files.results_json, about, [replace(one, confidence=0.5) for one in scores])
    half = compare(collect(tmp_path)).runs[0]
    assert formatting.coverage(half.rows) == "50%"
    write_results(files.results_json, about, scores)
    whole = compare(collect(tmp_path)).runs[0]
    narrow, wide = half.rows[0].difference.interval, whole.rows[0].difference.interval
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_majority_class_is_not_compared_by_a_metric_that_is_no_mean(tmp_path):
    files = write_run(tmp_path / "run", [Spec(note={"base": "untrained head"}, metric="macro_f1")])
    about, scores = read_results(files.results_json)
    write_results(files.results_json, about, [replace(one, value=0.123) for one in scores])
    [row] = compare(collect(tmp_path)).runs[0].rows
    assert row.difference is None and row.problem == "the majority class has no macro_f1 to compare with"
