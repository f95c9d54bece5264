"""Imported models on the board, beside this project's."""

import random

import pytest
from imported_files import question, sample, write_harness
from scipy.stats import binomtest

from workbench.config.compare import CompareConfig
from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.build import build
from workbench.leaderboard.compare_two.paired import compare_sides
from workbench.leaderboard.compare_two.sides import open_side
from workbench.leaderboard.imported_runs import collect_all


def flags(seed, share=0.5, count=150):
    dice = random.Random(seed)
    return [float(dice.random() < share) for _ in range(count)]


def write(folder, seed, text=question, **more):
    samples = [sample(n, value, text=text(n)) for n, value in enumerate(flags(seed, **more))]
    write_harness(folder, {"quiz": samples}, model=f"org/{folder.name}")


def board_of(folder):
    return build(collect_all(folder), LeaderboardConfig())


def test_imported_models_are_rows_that_name_their_tool(tmp_path):
    write(tmp_path / "one", 1)
    write(tmp_path / "two", 2)
    board = board_of(tmp_path)
    assert [(model.name, model.role) for model in board.models] == [("one", "imported"), ("two", "imported")]
    assert {model.tool for model in board.models} == {"lm-evaluation-harness 0.4.13"}
    assert board.alarms == board.skipped == ()


def test_two_imported_models_are_tested_on_their_items(tmp_path):
    write(tmp_path / "one", 1, share=0.3)
    write(tmp_path / "two", 2, share=0.6)
    board = board_of(tmp_path)
    [difference] = board.differences
    first, second = flags(1, 0.3), flags(2, 0.6)
    gained = sum(b > a for a, b in zip(first, second, strict=True))
    lost = sum(b < a for a, b in zip(first, second, strict=True))
    assert (difference.num_pairs, difference.gained, difference.lost) == (150, gained, lost)
    assert difference.p_value == pytest.approx(binomtest(gained, gained + lost).pvalue)
    assert difference.verdict == "better"


def test_other_prompts_stand_apart(tmp_path):
    write(tmp_path / "one", 1)
    write(tmp_path / "two", 2)
    write(tmp_path / "zother", 3, text=lambda number: f"Say: {question(number)}")
    board = board_of(tmp_path)
    names = {model.key: model.name for model in board.models}
    assert {names[cell.model]: cell.apart for cell in board.cells} == {
        "one": "",
        "two": "",
        "zother": "other prompts",
    }


def test_fewer_items_stand_apart_and_are_counted(tmp_path):
    write(tmp_path / "one", 1)
    write(tmp_path / "two", 2)
    write(tmp_path / "zpart", 3, count=60)
    board = board_of(tmp_path)
    names = {model.key: model.name for model in board.models}
    apart = {names[cell.model]: cell.apart for cell in board.cells}
    assert apart["zpart"] == "60 of 150 items"


def harness_config(**arguments):
    return {"config": {"model": "hf", "model_args": arguments, "model_dtype": "torch.bfloat16"}}


def write_adapters(folder, as_text=False):
    arguments = [{"pretrained": "org/tiny"}, {"pretrained": "org/tiny", "peft": "us/lora"}]
    arguments.append({"pretrained": "org/other", "peft": "us/stray"})
    for number, own in enumerate(arguments):
        samples = [sample(n, value) for n, value in enumerate(flags(number))]
        config = harness_config(**own)
        if as_text:
            config["config"]["model_args"] = ",".join(f"{key}={value}" for key, value in own.items())
        model = own.get("peft", own["pretrained"])
        write_harness(folder / str(number), {"quiz": samples}, model=model, **config)


@pytest.mark.parametrize("as_text", [False, True])
def test_an_adapter_of_another_tool_comes_from_the_base_that_the_tool_scored_alone(tmp_path, as_text):
    write_adapters(tmp_path, as_text)
    models = {model.name: model for model in board_of(tmp_path).models}
    assert models["lora"].parent == models["tiny"].key
    assert models["stray"].parent is None and models["tiny"].parent is None


def test_forgetting_of_an_imported_adapter_is_tested_against_its_base(tmp_path):
    write_adapters(tmp_path)
    [found] = build(collect_all(tmp_path), LeaderboardConfig(trained_for=[])).forgetting
    names = {model.key: model.name for model in board_of(tmp_path).models}
    assert (names[found.parent], names[found.model]) == ("tiny", "lora")


def write_bias(folder, value, **more):
    """Answers to a task of the harness whose metrics are better the lower they are, as in crows_pairs."""
    dice = random.Random(folder.name)
    metrics = [
        {"likelihood_diff": dice.uniform(0, 2 * value), "pct_stereotype": float(dice.random() < value / 10)}
        for _ in range(100)
    ]
    samples = [sample(n, 1.0, metrics=each) for n, each in enumerate(metrics)]
    told = {"higher_is_better": {"bias": dict.fromkeys(metrics[0], False)}}
    write_harness(folder, {"bias": samples}, model=f"org/{folder.name}", **told, **more)


def test_a_verdict_has_the_direction_that_the_harness_says_of_the_metric(tmp_path):
    write_bias(tmp_path / "a-fair", 2.0)
    write_bias(tmp_path / "b-biased", 6.0)
    board = board_of(tmp_path)
    [difference] = board.differences
    assert difference.value > 1 and difference.verdict == "worse"
    assert [column.lower_is_better for column in board.columns] == [True]
    names = {model.key: model.name for model in board.models}
    assert {names[cell.model]: cell.best_rank for cell in board.cells} == {"a-fair": 1, "b-biased": 2}
    sides = [open_side(str(tmp_path / name), "compare.a") for name in ("a-fair", "b-biased")]
    [row] = compare_sides(*sides, CompareConfig()).rows
    assert (row.verdict, row.is_share) == ("worse", False) and row.gained < row.lost


def test_scores_beyond_1_are_no_percentages_and_in_no_mean(tmp_path):
    for name, value in (("one", 2.0), ("two", 6.0)):
        write_bias(tmp_path / name, value)
        write_harness(
            tmp_path / name,
            {"quiz": [sample(n, value) for n, value in enumerate(flags(name))]},
            model=f"org/{name}",
            date="2026-02-02T03-04-05.678901",
        )
    board = board_of(tmp_path)
    assert {column.benchmark: column.is_share for column in board.columns} == {"bias": False, "quiz": True}
    assert board.means == ()


def test_files_of_one_model_in_one_folder_are_one_row(tmp_path):
    for number, task in enumerate(("quiz", "exam"), 1):
        for name in ("one", "two"):
            samples = [sample(n, value, text=f"{task} {question(n)}") for n, value in enumerate(flags(task))]
            date = f"2026-01-0{number}T03-04-05.678901"
            write_harness(tmp_path / name, {task: samples}, model=f"org/{name}", date=date)
    board = board_of(tmp_path)
    assert [model.name for model in board.models] == ["one", "two"] and board.skipped == ()
    [mean] = board.means
    assert len(mean.columns) == 2
    assert board.provenance["one"]["measured"]["lm-evaluation-harness"]["n-shot"] == {"quiz": 0, "exam": 0}
    side = open_side(str(tmp_path / "one"), "compare.a")
    assert side.scores().keys() == {"quiz", "exam"}


def test_of_groups_with_the_same_tasks_one_is_a_column(tmp_path):
    tasks = {
        name: [sample(n, value, text=f"{name} {question(n)}") for n, value in enumerate(flags(name))]
        for name in ("t1", "t2")
    }
    total = {"acc,none": sum(map(sum, map(flags, tasks))) / 300}
    groups = {"g": {"totals": total, "tasks": ["t1", "t2"]}, "outer": {"totals": total, "tasks": ["g"]}}
    write_harness(tmp_path / "one", tasks, groups=groups)
    assert [column.benchmark for column in board_of(tmp_path).columns] == ["g"]


def test_half_of_a_surrogate_pair_in_a_prompt_is_read(tmp_path):
    for number, name in enumerate(("one", "two")):
        write(tmp_path / name, number, text=lambda number: f"{question(number)} HALF")
        [path] = (tmp_path / name).glob("samples_*")
        path.write_text(path.read_text("utf-8").replace("HALF", "\\ud83d"), "utf-8")
    board = board_of(tmp_path)
    assert board.skipped == () and board.differences[0].num_pairs == 150
