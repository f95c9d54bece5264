"""Differences, means, subjects, forgetting and seeds of the board, against scipy and hand calculations."""

import random
from dataclasses import replace

import numpy as np
import pytest
from leaderboard_runs import Spec, answers, write_run
from scipy import stats
from sklearn.metrics import f1_score
from test_board_rows import board_of, sweep

from workbench.config.leaderboard import FamilyKind, LeaderboardConfig
from workbench.errors import ConfigError
from workbench.evaluation.records import read_predictions, read_results, write_predictions, write_results
from workbench.statistics.binary_pairs import compare_flips

PAIR = {"base": 0.4, "adapter": 0.6}


def values_of(spec, model):
    return np.array([one.scores[spec.metric] for one in answers(spec, model)])


def test_right_and_wrong_answers_take_scipys_exact_test_at_the_familys_level(tmp_path):
    spec = Spec(right=PAIR)
    write_run(tmp_path / "run", [spec])
    [found] = board_of(tmp_path).differences
    first, second = values_of(spec, "base"), values_of(spec, "adapter")
    gained, lost = int((second > first).sum()), int((second < first).sum())
    test = stats.binomtest(gained, gained + lost)
    assert (found.gained, found.lost, found.num_pairs) == (gained, lost, 120)
    assert found.p_value == pytest.approx(test.pvalue)
    expected = compare_flips(gained, lost, 120, 0.03)
    assert [found.low, found.high] == pytest.approx([float(expected.low), float(expected.high)], abs=1e-6)


@pytest.mark.parametrize("knowing", [0, 1, 2])
def test_clusters_that_one_model_knows_are_those_of_all_models_on_the_same_items(knowing, tmp_path):
    for number, level in enumerate((0.3, 0.45, 0.6)):
        per = 5 if number == knowing else 1
        write_run(
            tmp_path / f"{number}", [Spec(right={"base": level}, per_cluster=per)], weights=f"{number}" * 64
        )
    board = board_of(tmp_path)
    assert {(found.test, found.num_clusters) for found in board.differences} == {("sign-flip-exact", 24)}
    [outcomes] = board.outcomes.values()
    assert len(set(outcomes.clusters.tolist())) == 24


def test_a_verdict_is_exactly_whether_the_interval_excludes_0(tmp_path):
    levels = (0.4, 0.44, 0.5, 0.55, 0.6, 0.7, 0.8)
    for level in levels:
        weights = f"{level}".ljust(64, "0")
        write_run(
            tmp_path / weights,
            [Spec(right={"base": level}), Spec("b", "en", 60, {"base": level})],
            weights=weights,
        )
    board = board_of(tmp_path)
    assert {found.verdict for found in board.differences} >= {"better", "no difference shown"}
    for found in board.differences:
        assert (found.verdict == "better") == (found.low > 0) and (found.verdict == "worse") == (
            found.high < 0
        )
        assert (found.verdict != "no difference shown") == (found.p_adjusted < 0.03)


def test_the_family_counts_every_comparison_of_columns_and_means(tmp_path):
    write_run(tmp_path / "run", [Spec(), Spec(name="b"), Spec(name="c", language="en")])
    board = board_of(tmp_path)
    assert [mean.name for mean in board.means] == ["zh", "all"]
    assert board.family.num_comparisons == 3 * 3 + 2 * 3 == len(board.differences)
    assert {found.family for found in board.differences} == {15}


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"family": FamilyKind.reference}, 2),
        ({"family": FamilyKind.names, "names": ["toy · nf4 · adapter", "toy · merged"]}, 1),
        ({}, 3),
    ],
)
def test_the_family_is_chosen_by_a_key(config, count, tmp_path):
    write_run(tmp_path / "run", [Spec()])
    assert board_of(tmp_path, **config).family.num_comparisons == count


def test_a_reference_that_is_no_row_is_named_with_the_rows(tmp_path):
    write_run(tmp_path / "run", [Spec()])
    with pytest.raises(ConfigError, match="leaderboard.reference: no row is named 'x' .known: 'toy"):
        board_of(tmp_path, reference="x")


def test_names_need_two():
    with pytest.raises(ConfigError, match="leaderboard.names: .* two models or more"):
        LeaderboardConfig(family=FamilyKind.names, names=["a"])


def test_items_of_one_text_are_tested_together(tmp_path):
    spec = Spec(right=PAIR, per_cluster=4)
    write_run(tmp_path / "run", [spec])
    board = board_of(tmp_path)
    [found] = board.differences
    assert (found.test, found.num_clusters) == ("sign-flip-exact", 30)
    [outcomes] = board.outcomes.values()
    assert outcomes.clusters.tolist() == [number // 4 for number in range(120)]


def labelled(files, spec, model, flipped):
    """Give a model's predictions of two classes, of which `flipped` say how often each class is missed."""
    path, dice = files.predictions(model, spec.name), random.Random(model)
    told = []
    for number, one in enumerate(read_predictions(path)):
        target = int(number % 4 == 0)
        prediction = 1 - target if dice.random() < flipped[target] else target
        told.append(
            replace(one, target=target, prediction=prediction, scores={"f1": float(prediction == target)})
        )
    write_predictions(path, told)
    return f1_score([one.target for one in told], [one.prediction for one in told])


def test_of_f1_direction_size_and_test_are_of_f1_and_not_of_the_items(tmp_path):
    spec = Spec(metric="f1", num_items=800, right={"base": 0.5, "adapter": 0.5})
    files = write_run(tmp_path / "run", [spec])
    values = {
        "base": labelled(files, spec, "base", flipped=(0.25, 0.05)),
        "adapter": labelled(files, spec, "adapter", flipped=(0.0, 0.7)),
    }
    facts, scores = read_results(files.results_json)
    told = "1 where the answer is right, else 0"
    scores = [replace(one, value=values[one.model], item_score=told) for one in scores]
    write_results(files.results_json, facts, scores)
    board = board_of(tmp_path)
    [found] = board.differences
    assert board.alarms == () and found.test == "linearised-t"
    assert found.value == pytest.approx(values["adapter"] - values["base"]) and found.value < -0.1
    assert found.verdict == "worse" and found.low < found.value < found.high < 0


def test_an_f1_that_the_harness_has_weighted_is_believed_and_not_tested(tmp_path):
    spec = Spec(metric="f1", num_items=200, right={"base": 0.5, "adapter": 0.5})
    files = write_run(tmp_path / "run", [spec])
    for model in spec.right:
        labelled(files, spec, model, flipped=(0.25, 0.05))
    facts, scores = read_results(files.results_json)
    scores = [
        replace(one, value=0.77, item_score="[right, predicted]", protocol="lm-eval 0.4.13") for one in scores
    ]
    write_results(files.results_json, facts, scores)
    board = board_of(tmp_path)
    assert board.alarms == () and [found.verdict for found in board.differences] in ([], ["not tested"])


def test_of_bits_per_byte_the_ratio_is_tested_and_fewer_are_better(tmp_path):
    spec = Spec(metric="bits_per_byte", num_items=60, right=PAIR)
    files = write_run(tmp_path / "run", [spec])
    facts, scores = read_results(files.results_json)
    values = {}
    for model, nats in (("base", 60.0), ("adapter", 40.0)):
        path = files.predictions(model, spec.name)
        told = [
            replace(one, scores={"bits_per_byte": -nats - number % 7})
            for number, one in enumerate(read_predictions(path))
        ]
        write_predictions(path, told)
        size = sum(len(one.context.encode()) for one in told)
        values[model] = -sum(one.scores["bits_per_byte"] for one in told) / size / np.log(2)
    told = "log-likelihood of the text, in nats"
    write_results(
        files.results_json, facts, [replace(one, value=values[one.model], item_score=told) for one in scores]
    )
    board = board_of(tmp_path)
    [found] = board.differences
    assert board.alarms == () and (found.test, found.verdict) == ("ratio-t", "better")
    assert found.value == pytest.approx(values["adapter"] - values["base"]) and found.high < 0
    assert (found.gained, found.lost) == (60, 0)


def test_a_mean_is_over_the_columns_that_all_its_models_have(tmp_path):
    specs = [Spec(), Spec(name="b", num_items=40), Spec(name="c", num_items=30, right={"base": 0.3})]
    write_run(tmp_path / "run", [*specs, Spec(name="ppl", metric="byte_perplexity")])
    [mean] = board_of(tmp_path).means
    assert mean.name == "zh" and len(mean.columns) == 2 and len(mean.scores) == 3
    assert sorted(mean.left_out.values()) == [
        "byte_perplexity isn't a share of right items",
        "only 1 of 3 models have it",
    ]


def test_a_mean_is_normalized_by_chance_and_not_clipped(tmp_path):
    specs = [Spec(right={"base": 0.05}), Spec(name="b", num_items=40, right={"base": 0.1})]
    write_run(tmp_path / "run", specs)
    board = board_of(tmp_path)
    [score] = board.means[0].scores.values()
    values = [cell.score.value for cell in board.cells]
    assert score.raw == pytest.approx(sum(values) / 2)
    assert (
        score.normalized == pytest.approx(sum((value - 0.25) / 0.75 for value in values) / 2)
        and score.normalized < 0
    )
    errors = [cell.score.stderr for cell in board.cells]
    assert score.raw_stderr == pytest.approx(np.hypot(*errors) / 2)


def with_subjects(path, damage=()):
    """A run whose adapter gets every item of the damaged subjects wrong."""
    subjects = tuple(f"s{number}" for number in range(6))
    spec = Spec(num_items=600, subsets=subjects, right={"base": 0.7, "adapter": 0.7})
    files = write_run(path, [spec])
    first = {one.id: one for one in read_predictions(files.predictions("base", spec.name))}
    told = [
        replace(one, scores={"acc": 0.0 if one.subset in damage else first[one.id].scores["acc"]})
        for one in read_predictions(files.predictions("adapter", spec.name))
    ]
    write_predictions(files.predictions("adapter", spec.name), told)
    facts, scores = read_results(files.results_json)
    value = sum(one.scores["acc"] for one in told) / len(told)
    groups = {"even": ["s0", "s2", "s4"], "odd": ["s1", "s3", "s5"]}
    scores = [
        replace(one, value=value if one.model == "adapter" else one.value, group_members=groups)
        for one in scores
    ]
    write_results(files.results_json, facts, scores)


def test_damage_in_one_subject_is_found_and_nothing_else_is(tmp_path):
    with_subjects(tmp_path / "run", damage=("s3",))
    found = {(each.subject, each.verdict) for each in board_of(tmp_path).subjects}
    assert {subject for subject, verdict in found if verdict == "worse"} == {"s3", "odd"}
    assert len(found) == 8 and {verdict for _, verdict in found} == {"worse", "no difference shown"}


def test_a_subject_says_the_smallest_damage_that_would_be_found(tmp_path):
    with_subjects(tmp_path / "run")
    board = board_of(tmp_path)
    alone = {each.subject: each.detectable for each in board.subjects}
    assert 0.05 < alone["s0"] < 0.3 and alone["even"] < alone["s0"]


def test_forgetting_is_tested_on_what_was_not_trained_for(tmp_path):
    names = ("a", "b", "c", "d")
    specs = [
        Spec(name=name, num_items=400, right={"base": 0.8, "adapter": 0.9 if name == "a" else 0.6})
        for name in names
    ]
    write_run(tmp_path / "run", specs)
    [found] = board_of(tmp_path, trained_for=["a"]).forgetting
    assert len(found.columns) == 3 and found.verdict == "worse" and found.high < 0
    per = [values_of(spec, "adapter").mean() - values_of(spec, "base").mean() for spec in specs[1:]]
    assert found.value == pytest.approx(np.mean(per))


def test_without_a_declaration_forgetting_is_not_tested(tmp_path):
    write_run(tmp_path / "run", [Spec(), Spec(name="b")])
    assert board_of(tmp_path).forgetting == ()
    assert len(board_of(tmp_path, trained_for=[]).forgetting) == 2


def sweep_of(path, levels):
    """Runs of one recipe, one a seed."""
    for seed, level in enumerate(levels, 1):
        config = {"seed": seed, "model": {"path": "toy"}, "quantization": {"method": "nf4"}}
        config |= {"adapter": {"rank": 16}, "data": {"path": "rows"}, "train": {"learning_rate": 0.001}}
        spec = Spec(right={"base": 0.3, "adapter": level}, num_items=300)
        files = write_run(path / f"s{seed}", [spec], seed=seed, adapter=f"{seed}" * 64, config=config)
        base = Spec(right={"base": 0.3}, num_items=300)
        write_predictions(files.predictions("base", spec.name), answers(base, "base", 0))
        facts, scores = read_results(files.results_json)
        value = float(values_of(base, "base").mean())
        write_results(
            files.results_json,
            facts,
            [replace(one, value=value) if one.model == "base" else one for one in scores],
        )


def test_seeds_of_one_recipe_are_one_group_with_a_verdict_on_these_checkpoints(tmp_path):
    sweep_of(tmp_path, (0.7, 0.72, 0.68))
    board = board_of(tmp_path)
    [group] = board.seeds
    assert len(group.models) == 3 and "seeds 1, 2, 3" in group.name
    assert (group.checkpoints_verdict, group.recipe_verdict) == ("better", "descriptive")
    scores = [cell.score.value for cell in board.cells if cell.score.model == "adapter"]
    assert group.mean == pytest.approx(np.mean(scores)) and group.low < group.mean < group.high
    assert group.seed_stderr == pytest.approx(stats.sem(scores))
    assert board.family.num_comparisons == 6 + 2


def test_from_5_seeds_on_there_is_a_verdict_on_the_recipe(tmp_path):
    sweep_of(tmp_path, (0.7, 0.72, 0.68, 0.71, 0.69))
    [group] = board_of(tmp_path).seeds
    assert group.recipe_verdict == "better"


def test_the_same_runs_give_the_same_board(tmp_path):
    sweep(tmp_path)
    first, second = board_of(tmp_path), board_of(tmp_path)
    assert first.differences == second.differences and first.cells == second.cells
    assert first.models == second.models and first.means == second.means
