"""Metrics of all items together are compared as what they are, not by what single items score."""

import itertools
import json
import math
import random

import numpy as np
import pytest
from imported_files import question, sample, write_harness
from scipy.stats import ttest_rel
from sklearn.metrics import f1_score

from workbench.config.compare import CompareConfig
from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.records import Prediction, Score
from workbench.leaderboard.build import build
from workbench.leaderboard.compare_two.joint_metrics import compare_jointly, how_compared, why_untested
from workbench.leaderboard.compare_two.paired import compare_sides
from workbench.leaderboard.compare_two.pairing import Pairs
from workbench.leaderboard.compare_two.sides import open_side
from workbench.leaderboard.imported_runs import collect_all


def score(metric, meaning):
    return Score(
        model="base",
        benchmark="quiz",
        language="en",
        metric=metric,
        value=0.5,
        stderr=None,
        interval=None,
        num_items=400,
        num_fewshot=0,
        protocol="default",
        prompts="",
        item_score=meaning,
    )


def answer(number, **values):
    return Prediction(id=str(number), prompt_hash=str(number), **{"context": "", "scores": {}, **values})


def pairs(first, second):
    return Pairs(
        first=first,
        second=second,
        clusters=[""] * len(first),
        by="prompt",
        num_first=len(first),
        num_second=len(second),
    )


def test_f1_takes_its_direction_from_f1_where_the_items_say_the_opposite():
    dice = random.Random(4)
    targets = [int(dice.random() < 0.2) for _ in range(400)]
    never = [0] * 395 + [1] * 5  # right on most items, and hardly ever on the positive class
    often = [int(dice.random() < 0.45) if not target else 1 for target in targets]
    sides = [
        [
            answer(n, target=target, prediction=label)
            for n, (target, label) in enumerate(zip(targets, labels, strict=True))
        ]
        for labels in (never, often)
    ]
    own = score("f1", "whether the label is right")
    test, values = compare_jointly(own, own, pairs(*sides), 0.05)
    assert values == pytest.approx([f1_score(targets, never), f1_score(targets, often)])
    assert test.difference == pytest.approx(values[1] - values[0])
    right = [sum(a == b for a, b in zip(targets, labels, strict=True)) for labels in (never, often)]
    assert right[1] < right[0] and test.sign == 1 and test.low > 0


def test_bits_per_byte_weigh_texts_by_their_bytes():
    texts = ["词" * 10, "a" * 300, "b" * 60] * 20
    nats = [[-2.0 * len(text.encode()) for text in texts], [-1.9 * len(text.encode()) for text in texts]]
    sides = [
        [
            answer(n, target=0, prediction=None, context=text, scores={"bits_per_byte": value})
            for n, (text, value) in enumerate(zip(texts, side, strict=True))
        ]
        for side in nats
    ]
    own = score("bits_per_byte", "log-likelihood of the text")
    test, values = compare_jointly(own, own, pairs(*sides), 0.05)
    assert values == pytest.approx([2.0 / math.log(2), 1.9 / math.log(2)])
    assert test.difference == pytest.approx(-0.1 / math.log(2))


def test_a_metric_that_only_the_run_can_compute_has_no_test():
    for metric, meaning in (("token_perplexity", "log-likelihood of the text"), ("own", "something")):
        own = score(metric, meaning)
        one = [answer(0, target="a", prediction="a", scores={metric: 1.0})]
        assert compare_jointly(own, own, pairs(one, one), 0.05) is None
    assert "tokens differ between tokenizers" in why_untested(score("token_perplexity", "log-likelihood"))


def scored(metric, values):
    return [
        answer(n, target=0, prediction=None, context="a text of six words here", scores={metric: value})
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("metric", "unit", "size"),
    [("byte_perplexity", "byte", 24), ("word_perplexity", "word", 6), ("perplexity", "item", 1)],
)
def test_perplexities_are_compared_in_bits_by_a_paired_t_test(metric, unit, size):
    dice = random.Random(1)
    nats = [[-dice.uniform(20, 40) for _ in range(40)] for _ in range(2)]
    own = score(metric, "log-likelihood of the text")
    test, values = compare_jointly(own, own, pairs(*(scored(metric, side) for side in nats)), 0.05)
    assert test.p_value == pytest.approx(ttest_rel(*nats).pvalue)
    assert values == pytest.approx([-sum(side) / 40 / size / math.log(2) for side in nats])
    assert how_compared(own) == f"{metric} is compared by its logarithm, in bits a {unit}"


def test_bleu_is_compared_by_what_each_item_scores_alone():
    dice = random.Random(2)
    sides = [[dice.uniform(0, 40) for _ in range(14)], [dice.uniform(10, 50) for _ in range(14)]]
    own = score("bleu", "bleu of the item alone")
    test, values = compare_jointly(own, own, pairs(*(scored("bleu", side) for side in sides)), 0.05)
    changes = np.subtract(*reversed(sides))
    signs = np.array(list(itertools.product((-1, 1), repeat=14)))
    exact = np.mean(np.abs(signs @ changes) >= abs(changes.sum()) - 1e-9)
    assert test.p_value == pytest.approx(exact, abs=2e-3)
    assert values == pytest.approx([np.mean(side) for side in sides])
    assert test.difference == pytest.approx(values[1] - values[0])
    assert how_compared(own).startswith("compared by the mean of each item's own bleu, not by")


def test_bits_per_byte_of_another_tool_are_those_that_it_reports(tmp_path):
    """lm-evaluation-harness counts the bytes of wikitext before it prepares the text that is scored."""
    sides, expected = [], []
    for name, nats in (("a", 20.0), ("b", 19.0)):
        samples = [
            sample(n, 1.0, metrics={"bits_per_byte": [-nats - n, 90 + n]})
            | {"arguments": {"gen_args_0": {"arg_0": f"the low-cost thing number {n}"}}}
            for n in range(30)
        ]
        path = write_harness(tmp_path / name, {"wikitext": samples}, model=f"org/{name}")
        values = json.loads(path.read_text())
        total = sum(nats + n for n in range(30)) / sum(90 + n for n in range(30)) / math.log(2)
        values["results"]["wikitext"]["bits_per_byte,none"] = total
        path.write_text(json.dumps(values))
        sides.append(open_side(str(tmp_path / name), name))
        expected.append(total)
    [row] = compare_sides(*sides, CompareConfig()).rows
    assert [row.first, row.second] == pytest.approx(expected)
    assert row.test.difference == pytest.approx(expected[1] - expected[0])


def write_labels(folder, tasks, group=False):
    """Write right and predicted labels that aren't the places of the choices; return the F1 of each task."""
    samples = {
        task: [
            sample(n, 1.0, text=question(n, task), metrics={"f1": list(row)}) for n, row in enumerate(rows)
        ]
        for task, rows in tasks.items()
    }
    totals = {task: f1_score(*zip(*rows, strict=True)) for task, rows in tasks.items()}
    mean = sum(totals.values()) / len(totals)
    groups = {"quiz": {"tasks": list(tasks), "totals": {"f1,none": mean}}} if group else None
    path = write_harness(folder, samples, model=f"org/{folder.name}", groups=groups)
    values = json.loads(path.read_text())
    for task, total in totals.items():
        values["results"][task]["f1,none"] = total
    path.write_text(json.dumps(values))
    return list(totals.values())


def labels(seed, share):
    dice = random.Random(seed)
    return [(number % 2, int(dice.random() < share)) for number in range(60)]


def test_another_tools_labels_are_those_that_its_metric_was_given(tmp_path):
    expected = [*write_labels(tmp_path / "a", {"quiz": labels(1, 0.3)})]
    expected += write_labels(tmp_path / "b", {"quiz": labels(2, 0.7)})
    sides = [open_side(str(tmp_path / name), name) for name in "ab"]
    [row] = compare_sides(*sides, CompareConfig()).rows
    assert [row.first, row.second] == pytest.approx(expected) and row.test is not None


def test_the_f1_of_a_group_is_the_mean_of_its_tasks_and_has_no_test(tmp_path):
    expected = []
    for seed, name in enumerate("ab"):
        tasks = {"law": labels(seed, 0.3), "art": labels(seed + 9, 0.7)}
        found = write_labels(tmp_path / name, tasks, group=True)
        expected.append(sum(found) / 2)
    sides = [open_side(str(tmp_path / name), name) for name in "ab"]
    [row] = compare_sides(*sides, CompareConfig()).rows
    assert [row.first, row.second] == pytest.approx(expected) and row.test is None
    assert build(collect_all(tmp_path), LeaderboardConfig()).alarms == ()
