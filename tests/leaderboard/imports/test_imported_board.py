"""Imported models on the board, beside this project's."""

import random

import pytest
from imported_files import question, sample, write_harness
from scipy.stats import binomtest

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.build import build
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
