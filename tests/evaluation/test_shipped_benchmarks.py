"""Every benchmark that is shipped reads both layouts of its rows and makes the same prompts of them."""

from pathlib import Path

import datasets
import pytest
from code_rows import CODE
from five_rows import ROWS
from layouts import ALIKE, LAYOUTS
from omegaconf import OmegaConf

from workbench.config.benchmark import BenchmarkConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import Example
from workbench.evaluation.tasks.requests import item

CONF = Path(__file__).parents[2] / "conf" / "benchmark"
GROUPS = ("zh", "en", "open-llama-zh-en", "chat-zh-en", "base-zh-en", "guard")
ELSEWHERE = ("lm-eval", "ifeval", "multi_if_zh", *ROWS, *CODE)
"""Held against other rows, in test_harness, test_*instructions, test_five_rows and test_code_benchmarks."""
SHIPPED = sorted(
    path.stem
    for path in CONF.glob("*.yaml")
    if path.stem not in (*GROUPS, *ELSEWHERE) and not path.stem.startswith("toy")
)


def load(name: str, **changes) -> BenchmarkConfig:
    file = OmegaConf.load(CONF / f"{name}.yaml")
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(BenchmarkConfig), file, changes))


def write(name: str, folder: Path) -> str:
    """Lays out the local files of a benchmark; its subset is returned."""
    subset, _, files = LAYOUTS[ALIKE.get(name, name)]
    for file, text in files.items():
        place = folder / file.replace("Easy", "Challenge" if "challenge" in name else "Easy")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return subset


def only(name: str, benchmark: BenchmarkConfig, subset: str) -> Example:
    benchmark.num_fewshot = 0
    if subset:
        benchmark.only = [subset]
    [example] = prepare_benchmarks({name: benchmark}, EvaluateConfig())[name].examples
    return example


def test_every_benchmark_has_a_row_in_this_test():
    assert sorted({*LAYOUTS, *ALIKE}) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_hub_rows_and_local_rows_make_the_same_prompts(name, tmp_path, monkeypatch):
    subset = write(name, tmp_path)
    row = LAYOUTS[ALIKE.get(name, name)][1]
    hub = datasets.Dataset.from_list([row]) if row else None
    asked = []

    def load_dataset(path: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((path, config, split))
        return hub

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for protocol in ["default", *load(name).protocols]:
        local = only(name, load(name, path=str(tmp_path), protocol=protocol), subset)
        assert local.questions[0] or local.continuations[0]
        if row is not None:
            assert only(name, load(name, protocol=protocol), subset) == local
    if row is not None:
        benchmark = load(name)
        assert asked[0] == (
            benchmark.dataset,
            benchmark.hub.name.replace("{subset}", subset) or None,
            benchmark.split,
        )


@pytest.mark.parametrize("name", ["ifeval", "multi_if_zh", *SHIPPED, *ROWS, *CODE])
def test_every_benchmark_says_where_it_comes_from_and_how_many_items_it_has(name):
    benchmark = load(name)
    assert benchmark.language in ("zh", "en")
    if name != "perplexity":
        assert "https://" in benchmark.source
        assert benchmark.num_items


def prompt(name: str, folder: Path, **changes) -> list[tuple[str, str]]:
    return item(only(name, load(name, path=str(folder), **changes), write(name, folder)), 0).pairs


def test_protocols_of_the_mmlu_family_ask_differently(tmp_path):
    letters = "太阳从哪边升起？\nA. 东\nB. 西\nC. 南\nD. 北\n"
    head = "以下是关于农学的单项选择题，请直接给出正确答案的选项。\n"
    pairs = {p: prompt("cmmlu", tmp_path, protocol=p)[0] for p in load("cmmlu").protocols}
    assert pairs["official"] == (f"{head}\n题目：{letters}答案是：", "A")
    assert pairs["lm-eval"] == (f"{head}\n{letters}答案：", " A")
    assert pairs["opencompass"] == (f"{head}题目：{letters}答案是: ", "A")
    assert pairs["llamafactory"] == (
        f"以下是中国关于农学考试的单项选择题，请选出其中的正确答案。\n\n{letters}答案：",
        "A",
    )
    mmlu = prompt("mmlu", tmp_path, protocol="official")[0]
    assert mmlu == (
        "The following are multiple choice questions (with answers) about  anatomy.\n\n"
        "Where is the heart?\nA. chest\nB. head\nC. foot\nD. hand\nAnswer:",
        " A",
    )


def test_hellaswag_marks_are_taken_out_as_the_harness_does(tmp_path):
    assert prompt("hellaswag", tmp_path)[:2] == [
        ("Cooking: A pan is hot. The cook", " adds oil.. Then eggs."),
        ("Cooking: A pan is hot. The cook", " sleeps well"),
    ]


def test_winogrande_scores_the_rest_of_the_sentence_after_each_name(tmp_path):
    assert prompt("winogrande", tmp_path) == [
        ("The cup fell off the shelf as cup", " was loose."),
        ("The cup fell off the shelf as shelf", " was loose."),
    ]


def test_ocnli_asks_neutral_with_a_prompt_of_its_own(tmp_path):
    wrong, right, maybe = prompt("ocnli", tmp_path)
    assert right == ("阅读文章：他在跑步。\n根据上文，回答如下问题： 他在运动。？\n答：", "对")
    assert wrong[0] == right[0]
    assert maybe == ("如果他在跑步。为真，那么他在运动。也为真吗?", "可能")


def test_truthfulqa_mc2_has_every_true_answer_as_a_target(tmp_path):
    example = only(
        "truthfulqa_mc2", load("truthfulqa_mc2", path=str(tmp_path)), write("truthfulqa_mc2", tmp_path)
    )
    assert example.target == (0, 1)


def test_gsm8k_targets_are_plain_numbers(tmp_path):
    assert only("gsm8k", load("gsm8k", path=str(tmp_path)), write("gsm8k", tmp_path)).target == "1004"


def test_xnli_rows_of_other_languages_are_left_out(tmp_path):
    assert prompt("xnli_zh", tmp_path)[1] == ("", " 他在跑步。, 正确? 所以, 他在运动。")


def test_groups_name_benchmarks_that_exist_and_hold_each_language_whole():
    groups = {name: OmegaConf.load(CONF / f"{name}.yaml").defaults for name in GROUPS}
    assert all(set(names) <= {*SHIPPED, *ROWS} for names in groups.values())
    for language in ("zh", "en"):
        assert all(load(name).language == language for name in groups[language])
