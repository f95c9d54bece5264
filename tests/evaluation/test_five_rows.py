"""Benchmarks of reading, reasoning and knowledge: five rows of both layouts make the same items."""

from pathlib import Path

import datasets
import pytest
from five_rows import LONG, MMLU_PRO_SHOWN, PAGES, ROWS
from test_shipped_benchmarks import load
from test_targets import judged

from workbench.cli.reference import page
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.metrics import item_predictions
from workbench.evaluation.metrics.item_predictions import NOT_PLAIN
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Answer
from workbench.evaluation.tasks.requests import item


def written(name: str, folder: Path) -> str:
    """Write the local files of a benchmark; its subset is returned."""
    subset, hub, files = ROWS[name]
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    if name == "mmlu_pro":
        (folder / "data").mkdir()
        for split, rows in (("test", hub), ("validation", MMLU_PRO_SHOWN)):
            datasets.Dataset.from_list(rows).to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return subset


def prepared(name: str, subset: str, **changes) -> PreparedBenchmark:
    only = {"only": [subset]} if subset else {}
    return prepare_benchmarks({name: load(name, **only, **changes)}, EvaluateConfig())[name]


def local(name: str, folder: Path, **changes) -> PreparedBenchmark:
    return prepared(name, written(name, folder), path=str(folder), **changes)


@pytest.mark.parametrize("name", ROWS)
def test_five_rows_of_both_layouts_make_the_same_items(name, tmp_path, monkeypatch):
    hub = ROWS[name][1]
    asked = []

    def load_dataset(path: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((path, config, split))
        return datasets.Dataset.from_list(hub)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    subset = written(name, tmp_path)
    for protocol in ["default", *load(name).protocols]:
        examples = prepared(name, subset, path=str(tmp_path), protocol=protocol, num_fewshot=0).examples
        assert len(examples) == len({example.id for example in examples}) == 5
        if hub is not None:
            assert prepared(name, subset, protocol=protocol, num_fewshot=0).examples == examples
    if hub is not None:
        benchmark = load(name)
        config = benchmark.hub.name.replace("{subset}", subset) or None
        assert asked[0] == (benchmark.dataset.replace("{subset}", subset), config, benchmark.split)


def test_cmrc_has_all_references_of_a_question_in_each_of_three_layouts(tmp_path):
    examples = local("cmrc2018", tmp_path, num_fewshot=0).examples
    assert [example.references for example in examples][:2] == [
        ("东边", "村子的东边"),
        ("三座", "三", "三座桥"),
    ]
    assert examples[0].cluster == examples[1].cluster != examples[2].cluster
    flat = tmp_path / "flat.jsonl"
    flat.write_text(
        '{"context": "天气很好。", "question": "天气？", "answers": ["很好", "好"]}\n', encoding="utf-8"
    )
    unfold = {"unfold": ""}
    [example] = prepared("cmrc2018", "", path=str(flat), local=unfold, num_fewshot=0).examples
    assert example.references == ("很好", "好")
    assert example.questions[0].endswith("文章：天气很好。\n问：天气？\n答：")
    nested = tmp_path / "nested.json"
    nested.write_text(
        '[{"context_id": "1", "context_text": "天气很好。", "title": "天气", '
        '"qas": [{"query_text": "天气？", "query_id": "1-1", "answers": ["很好", "好"]}]}]',
        encoding="utf-8",
    )
    [other] = prepared("cmrc2018", "", path=str(nested), local={"unfold": "qas"}, num_fewshot=0).examples
    assert other == example


def test_cmrc_answers_start_after_the_words_that_the_prompt_asks_for(tmp_path):
    benchmark = local("cmrc2018", tmp_path, num_fewshot=0)
    predictions, scores = judged(benchmark, ["答案是东边。", "三座桥", "答案是：2001年", "咖啡，不是茶", ""])
    assert [one.prediction for one in predictions] == ["东边。", "三座桥", "2001年", "咖啡，不是茶", ""]
    assert [one.scores["cmrc_em"] for one in predictions] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert scores[0].metric == "cmrc_f1" and scores[0].value == pytest.approx((1 + 1 + 0.5 + 0.5) / 5)


def test_agieval_counts_each_of_several_right_options(tmp_path):
    examples = local("agieval_zh", tmp_path).examples
    assert [example.target for example in examples] == [1, (0, 1), (0, 2), 0, 0]
    assert item(examples[4], 0).pairs[0] == (
        "问题：最小的是？ 选项：(A)一 (B)二 (C)三\n答案：从A到C, 我们应选择",
        " (A)一",
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" False", "False"),
        ("True.\nQ2", "True"),
        (" Let us see.\nFirst. So the answer is True. Done", "True. Done"),
        (" First, not True is False.\nSo the answer is False.", "False"),
    ],
)
def test_bbh_answers_are_what_follows_answer_is_or_the_first_line(text, answer, tmp_path):
    benchmark = local("bbh", tmp_path)
    predictions, _ = judged(benchmark, [text] * 5)
    assert predictions[0].prediction == answer
    assert item(benchmark.examples[0], 0).contexts == (
        "Evaluate the result of a random Boolean expression.\n\nQ: True and not True is\nA:",
    )


def test_math_answers_are_the_last_box_with_its_nested_braces(tmp_path):
    answers = ["so \\boxed{1} then \\boxed{\\frac{3}{4}}.", "The final answer is $32$. I hope it is correct."]
    pytest.importorskip("math_verify")
    predictions, _ = judged(
        local("math_500", tmp_path), [*answers, "one", "\\boxed{(0, 1]}", "\\boxed{\\text{Evelyn}}"]
    )
    assert [one.scores["math_verify"] for one in predictions] == [1.0, 1.0, 0.0, 1.0, 1.0]
    assert [one.scores["exact_match"] for one in predictions] == [1.0, 1.0, 0.0, 1.0, 1.0]


def test_gpqa_questions_stay_out_of_predictions(tmp_path):
    benchmark = local("gpqa", tmp_path)
    assert sorted(example.target for example in benchmark.examples)[0] == 0
    assert {example.target for example in benchmark.examples} == {0, 1, 2, 3}
    items = [item(example, 0) for example in benchmark.examples]
    for number, one in enumerate(items, 1):
        right = f"({'ABCD'[one.example.target]}) {2 * number}\n"
        assert right in one.contexts[0] and one.pairs[1][1] == " (B)"
    answers = [[Answer(loglikelihoods=(-1.0, -2.0, -3.0, -4.0), num_tokens=(1,) * 4)] for _ in items]
    for prediction in item_predictions.predictions(benchmark, items, answers):
        assert prediction.context == NOT_PLAIN and prediction.choices == ["(A)", "(B)", "(C)", "(D)"]
        assert "even" not in repr(prediction)


def test_mmlu_pro_shows_as_many_letters_as_a_question_has_options(tmp_path):
    benchmark = local("mmlu_pro", tmp_path)
    assert benchmark.examples[0].choices == ("A", "B", "C") and len(benchmark.examples[4].choices) == 7
    assert (
        item(benchmark.examples[1], 0)
        .contexts[0]
        .endswith(
            "Question:\nWhat is 1 + 1?\nOptions:\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: Let's think step by step."
        )
    )
    predictions, _ = judged(benchmark, ["It is 2. The answer is (B)."] * 5)
    assert [one.scores["exact_match"] for one in predictions] == [1.0] * 5


def test_mmlu_pro_shows_the_worked_examples_of_the_category_of_the_question(tmp_path):
    example = local("mmlu_pro", tmp_path, protocol="few-shot", num_fewshot=2).examples[4]
    [context] = item(example, 0).contexts
    start = "The following are multiple choice questions (with answers) about math. Think"
    assert context.startswith(start)
    shots = context.split("letter choice.\n")[1].split("\n\n")
    firsts = [shot.split("\nOptions:\nA. ")[0] for shot in shots]
    assert firsts == ["Question:\nShow 0 + 1!", "Question:\nShow 1 + 1!", "Question:\nWhat is 4 + 1?"]
    assert shots[1].endswith("Answer: Let's think step by step. 1 + 1. The answer is (B).")
    assert shots[2].endswith("Answer: Let's think step by step.")


def test_trivia_answers_count_if_any_alias_has_their_words(tmp_path):
    predictions, _ = judged(
        local("trivia_qa", tmp_path), ["the City of Paris", "Marlowe", "water", "Eight!", ""]
    )
    assert [one.scores["squad_em"] for one in predictions] == [1.0, 0.0, 1.0, 1.0, 0.0]


def test_longbench_asks_each_set_in_its_own_words(tmp_path):
    first = local("longbench_zh", tmp_path).examples[0].questions[0]
    assert first == (
        "阅读以下文字并用中文简短回答：\n\n" + LONG[0]["context"] + "\n\n现在请基于上面的文章回答下面的问题，"
        "只告诉我答案，不要输出任何其他字词。\n\n问题：谁来了？\n回答："
    )


def test_wikitext_is_one_text_per_article(tmp_path):
    texts = [example.questions[0] for example in local("wikitext", tmp_path).examples]
    assert texts[0] == " = Robert =\n\nHe was, he said, a 4,000-pound man (of 3.5 N).\n"
    assert len(texts) == len(PAGES)


def test_the_page_marks_benchmarks_of_which_no_original_file_was_read():
    unseen = {file.stem for file in page.benchmark_files() if page.is_layout_unseen(file)}
    seen = {"cmrc2018", "agieval_zh", "agieval_en", "bbh"}
    assert unseen == {*ROWS, "multi_if_zh"} - seen
    lines = {line.split("`")[1]: line for line in page.benchmark_table().splitlines()[2:]}
    assert {name for name, line in lines.items() if "layout not seen" in line} == unseen
