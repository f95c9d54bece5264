"""Rows of the board: models known by content, their names, parents and alarms."""

import json
from dataclasses import replace

import pytest
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.records import read_predictions, write_predictions
from workbench.leaderboard.board import Model
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.leaderboard.rows.names import folder, with_names
from workbench.leaderboard.rows.roles import IMPORTED

BASE_AND_ADAPTER = {"base": 0.3, "adapter": 0.8}


def board_of(path, **config):
    return build(collect(path), LeaderboardConfig(**config))


def sweep(path, seeds=(1, 2), right=None):
    for seed in seeds:
        config = {
            "seed": seed,
            "model": {"path": "toy"},
            "quantization": {"method": "nf4"},
            "adapter": {"rank": 16},
            "data": {"path": "rows.jsonl"},
            "train": {"learning_rate": 0.001},
        }
        write_run(
            path / f"s{seed}", [Spec(right=right or BASE_AND_ADAPTER)], adapter=f"{seed}" * 64, config=config
        )


def test_the_same_base_scored_in_five_runs_is_one_row(tmp_path):
    sweep(tmp_path, seeds=(1, 2, 3, 4, 5))
    board = board_of(tmp_path)
    [base] = [model for model in board.models if model.role == "base"]
    assert base.sources == ("s1", "s2", "s3", "s4", "s5")
    assert len(board.models) == 6 and board.alarms == ()
    assert len([cell for cell in board.cells if cell.model == base.key]) == 1
    assert {model.parent for model in board.models if model.role == "adapter"} == {base.key}


def test_seeds_are_of_one_recipe_only_if_they_learned_from_the_same_rows(tmp_path):
    sweep(tmp_path, seeds=(1, 2, 3))
    for seed, recipe in (
        (1, "a" * 64),
        (2, "a" * 64),
        (3, "b" * 64),
    ):  # rows.jsonl was changed before the third
        path = tmp_path / f"s{seed}" / "run.json"
        entry = {"inputs": "0" * 64, "output": "0" * 64, "recipe": recipe}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": {"train": entry}}))
    [group] = board_of(tmp_path).seeds
    assert group.name.endswith("seeds 1, 2") and len(group.models) == 2


def test_the_same_model_with_other_answers_is_an_alarm_with_the_count_and_the_first_item(tmp_path):
    sweep(tmp_path)
    path = tmp_path / "s2" / "predictions" / "base" / "toy-reading-zh.jsonl"
    changed = read_predictions(path)
    right = next(number for number, one in enumerate(changed) if one.scores["acc"])
    wrong = next(number for number, one in enumerate(changed) if not one.scores["acc"])
    changed[right] = replace(changed[right], scores={"acc": 0.0})
    changed[wrong] = replace(changed[wrong], scores={"acc": 1.0})
    write_predictions(path, changed)
    [alarm] = board_of(tmp_path).alarms
    assert "2 of 120 items score otherwise in s2 than in s1" in alarm
    assert f"item '{min(right, wrong)}'" in alarm
    results = tmp_path / "s2" / "results.json"
    file = json.loads(results.read_text())
    file["scores"] = [score | {"num_samples": 4} for score in file["scores"]]
    results.write_text(json.dumps(file))
    assert not board_of(tmp_path).alarms  # another number of draws


def test_of_two_copies_of_a_models_scores_the_one_with_checksums_is_shown(tmp_path):
    sweep(tmp_path)
    found = collect(tmp_path)
    assert all("not verified" in remark for run in found.runs for remark in run.remarks)
    runs = [found.runs[0], replace(found.runs[1], remarks=[])]
    board = build(replace(found, runs=runs), LeaderboardConfig())
    [base] = [model for model in board.models if model.role == "base"]
    assert [cell.source for cell in board.cells if cell.model == base.key] == ["s2"]


def test_rows_are_named_by_what_tells_them_from_the_others(tmp_path):
    sweep(tmp_path)
    names = [model.name for model in board_of(tmp_path).models]
    assert names == ["toy", "toy · adapter · seed 1", "toy · adapter · seed 2"]


def test_what_another_tool_does_not_tell_is_no_difference():
    facts = {"path": "org/toy", "learning_rate": 0.001, "trained_on": "rows.jsonl"}
    rows = [
        model(key="0", role="base", facts={"path": "org/toy"}),
        model(key="1", role="adapter", facts=facts | {"seed": 1}),
        model(key="2", role="adapter", facts=facts | {"seed": 2}),
        model(key="3", role=IMPORTED, tool="harness", facts={"path": "org/toy"}),
    ]
    names = ["toy", "toy · adapter · seed 1", "toy · adapter · seed 2", "toy · harness"]
    assert [row.name for row in with_names(rows)] == names


def test_a_classifier_and_a_causal_model_of_one_folder_are_told_apart():
    tasks = ("causal_lm", "sequence_classification", "sequence_classification")
    roles = ("base", "base", "adapter")
    models = [
        model(key=str(number), role=role, facts={"path": "org/toy", "task": task})
        for number, (task, role) in enumerate(zip(tasks, roles, strict=True))
    ]
    assert [each.name for each in with_names(models)] == [
        "toy",
        "toy · classifier",
        "toy · classifier · adapter",
    ]


def test_models_that_differ_in_nothing_known_are_told_apart_by_their_runs(tmp_path):
    for run in ("a", "b"):
        write_run(tmp_path / run, [Spec(right=BASE_AND_ADAPTER)], adapter=run * 64)
    names = [model.name for model in board_of(tmp_path).models]
    assert names == ["toy", "toy · adapter · a", "toy · adapter · b"]


def test_a_given_name_is_the_trained_models(tmp_path):
    files = write_run(tmp_path / "run", [Spec()], measured={"steps": {}, "name": "mine"})
    assert files.run_json.is_file()
    names = {model.role: model.name for model in board_of(tmp_path).models}
    assert names["adapter"] == "mine" and names["merged"] == "mine merged" and "toy" in names["base"]


def test_trainings_that_differ_in_the_seed_alone_have_one_recipe(tmp_path):
    sweep(tmp_path)
    recipes = {model.recipe_key for model in board_of(tmp_path).models if model.role == "adapter"}
    assert len(recipes) == 1 and recipes != {""}


def test_other_weights_quantization_or_dtype_is_another_row(tmp_path):
    write_run(tmp_path / "a", [Spec(right={"base": 0.3})])
    write_run(tmp_path / "b", [Spec(right={"base": 0.4})], weights="12" * 32)
    assert len(board_of(tmp_path).models) == 2


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("/models/SmolLM2-135M.Q4_1.gguf", "SmolLM2-135M.Q4_1"),
        ("${toy:base}", "toy/base"),
        ("runs/mine/merged", "mine/merged"),
        ("a\x1b[2J\nb", "a␛[2J b"),
    ],
)
def test_a_model_is_called_after_its_folder(path, name):
    assert folder(path) == name


def model(**fields):
    plain = {"name": "", "parent": None, "tool": "", "facts": {}, "sources": ("run",), "recipe_key": ""}
    return Model(**(plain | fields))


def test_no_two_rows_have_one_name():
    same = model(key="0" * 16, name="x", role="base")
    models = with_names([same, replace(same, key="1" * 16), replace(same, key="2" * 16, name="y")])
    assert len({model.name for model in models}) == 3 and models[2].name == "y"


def failed(path, **values):
    path.mkdir(parents=True, exist_ok=True)
    model = {"path": "org/large", "adapter": None, "quantization": "nf4", "dtype": "auto"}
    record = {"schema_version": 1, "name": "large", "model": model, "reason": "out of memory", **values}
    (path / "failure.json").write_text(json.dumps(record))


def test_a_model_that_could_not_be_scored_is_a_row_with_the_reason_and_no_comparison(tmp_path):
    write_run(tmp_path / "run", [Spec(right=BASE_AND_ADAPTER)])
    failed(tmp_path / "large")
    board = board_of(tmp_path)
    [row] = [model for model in board.models if model.failure]
    assert (row.name, row.failure, row.facts["quantization"]) == ("large", "out of memory", "nf4")
    assert board.family.num_comparisons == 1 and board.skipped == ()
    assert not any("float32" in model.name for model in board.models)


def test_a_run_that_failed_after_some_scores_has_a_remark(tmp_path):
    write_run(tmp_path / "run", [Spec(right={"base": 0.3})])
    failed(tmp_path / "run")
    [row] = board_of(tmp_path).models
    assert row.failure == "" and row.remarks[-1] == "not scored on everything: out of memory"


def test_an_odd_record_of_a_failure_is_skipped_by_name(tmp_path):
    failed(tmp_path / "large", model=7)
    [skipped] = board_of(tmp_path).skipped
    assert skipped.path == "large/failure.json" and "not the record of a failure" in skipped.reason


@pytest.mark.parametrize("known", [True, False])
def test_what_an_adapter_from_elsewhere_was_trained_with_is_not_told_by_the_run_that_scored_it(
    tmp_path, known
):
    scoring = {
        "seed": 42,
        "model": {"path": "toy"},
        "quantization": {"method": "nf4"},
        "adapter": {"rank": 16, "path": "elsewhere/adapter"},
        "data": {},
        "train": {"learning_rate": 0.0002},
    }
    training = {"rank": 4, "learning_rate": 0.0005, "trained_on": "rows.jsonl", "recipe": "ab" * 8}
    for seed in (1, 2, 3):
        folder = tmp_path / f"s{seed}"
        write_run(folder, [Spec(right={"adapter": 0.8})], adapter=f"{seed}" * 64, config=scoring)
        if known:
            results = json.loads((folder / "results.json").read_text())
            results["models"]["adapter"]["training"] = training | {"seed": seed}
            (folder / "results.json").write_text(json.dumps(results))
    models = board_of(tmp_path).models
    for model, seed in zip(models, (1, 2, 3), strict=True):
        told = {key: model.facts.get(key) for key in ("rank", "learning_rate", "seed")}
        expected = {"rank": 4, "learning_rate": 0.0005, "seed": seed} if known else dict.fromkeys(told)
        assert told == expected
    assert len({model.recipe_key for model in models}) == 1 and bool(models[0].recipe_key) == known


def test_names_that_differ_only_in_letters_that_look_alike_are_warned_of_in_a_line(tmp_path):
    for number, name in enumerate(("cat", "c\u0430t", "Cat", "\u0441\u043e\u0432\u0430")):
        folder, measured = tmp_path / f"r{number}", {"steps": {}, "name": name}
        write_run(folder, [Spec(right={"base": 0.4})], weights=f"{number}a" * 32, measured=measured)
    remarks = [f"{model.name}: {text}" for model in board_of(tmp_path).models for text in model.remarks]
    assert [line for line in remarks if "looks like" in line] == [
        "c\u0430t: its name looks like that of another row, but has \u0430 U+0430"
    ]
