"""IFEval's answers are scored by lm-evaluation-harness's checkers; what lacks its data is refused by name."""

import json
import random
from pathlib import Path

import datasets
import pytest
from test_shipped_benchmarks import load
from test_targets import judged

from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark

for package in ("lm_eval", "langdetect", "immutabledict", "emoji"):
    pytest.importorskip(package)

ENGLISH = "This is a short answer in the English language, which says nothing of any interest."
SENTENCES = (
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        "It is. It was.",
        "It is. " * 5,
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "THE END.",
        "The END.",
    ),
)
CASES = (
    ("keywords:existence", {"keywords": ["dog", "day"]}, "A dog day.", "A dog."),
    (
        "keywords:frequency",
        {"keyword": "dog", "frequency": 2, "relation": "at least"},
        "dog, dog",
        "dog",
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A dog.", "A cat."),
    (
        "keywords:letter_frequency",
        {"letter": "q", "let_frequency": 2, "let_relation": "at least"},
        "quick quiz",
        "quick",
    ),
    ("language:response_language", {"language": "de"}, "Das ist ein kurzer Satz auf Deutsch.", ENGLISH),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n***\nTwo.", "One.\n\nTwo."),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        "one two three",
        "one two",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "First this.\n\nThen that.",
        "First this.\n\nNow that.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}, "Dear [name],", "Dear Ann,"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. Write.", "Bye."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n* two", "* one"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "Yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "So *here*.", "So here."),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 2},
        "Part 1\nOne.\nPart 2\nTwo.",
        "One. Two.",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "a = 1"),
    ("detectable_format:title", {}, "<<Joy>>\nText.", "Joy\nText."),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One. Two."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "Say it. Yes.", "Yes."),
    ("startend:end_checker", {"end_phrase": "That is all."}, "Yes. That is all.", "Yes."),
    ("startend:quotation", {}, '"Yes."', "Yes."),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", {}, ENGLISH.lower(), ENGLISH),
    ("punctuation:no_comma", {}, "One two.", "One, two."),
)
PAIR = {
    "key": 99,
    "prompt": "Write two dog words without commas.",
    "instruction_id_list": ["keywords:existence", "punctuation:no_comma"],
    "kwargs": [{"keywords": ["dog"]}, {}],
}


def test_chinese_prompts_are_refused_because_the_checkers_know_english_alone(tmp_path):
    chinese = {**PAIR, "key": 7, "prompt": "请用不超过三句话介绍 Paris，不要使用逗号。"}
    with pytest.raises(
        ConfigError, match=r"^benchmarks\.ifeval: 1 items, such as 7, are Chinese, .*ifeval\.language=zh"
    ):
        prepared(tmp_path, [PAIR, chinese])
    prepared(tmp_path, [{**PAIR, "prompt": "Translate 'I have two dogs, and a cat' to Chinese (中文)."}])


def rows(cases=CASES) -> list[dict]:
    single = [
        {"key": key, "prompt": f"Write {key}.", "instruction_id_list": [name], "kwargs": [arguments]}
        for key, (name, arguments, _, _) in enumerate(cases, 1000)
    ]
    return [*single, PAIR]


def written(folder: Path, items: list[dict]) -> str:
    (folder / "input_data.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(folder)


def prepared(folder: Path, items: list[dict], **changes) -> PreparedBenchmark:
    config = load("ifeval", path=written(folder, items), **changes)
    return prepare_benchmarks({"ifeval": config}, EvaluateConfig())["ifeval"]


def test_each_instruction_is_followed_by_one_answer_and_not_by_the_other(tmp_path):
    benchmark = prepared(tmp_path, rows())
    good = [*(right for _, _, right, _ in CASES), "dog words"]
    bad = [*(wrong for _, _, _, wrong in CASES), "dog, words"]
    predictions, scores = judged(benchmark, good)
    assert [(score.metric, score.value) for score in scores] == [
        ("prompt_level_strict_acc", 1.0),
        ("prompt_level_loose_acc", 1.0),
        ("inst_level_strict_acc", 1.0),
        ("inst_level_loose_acc", 1.0),
    ]
    assert predictions[0].prediction == good[0]
    predictions, scores = judged(benchmark, bad)
    assert scores[0].value == 0.0
    assert scores[2].value == pytest.approx(1 / (len(CASES) + 2))
    assert predictions[-1].scores["prompt_level_strict_acc"] == 0.0
    assert predictions[-1].scores["inst_level_strict_acc"] == 0.5


def test_loose_scores_allow_a_first_line_and_asterisks(tmp_path):
    [prediction], _ = judged(prepared(tmp_path, [PAIR]), ["Sure, here it is:\ndog words"])
    assert prediction.scores == {
        "prompt_level_strict_acc": 0.0,
        "prompt_level_loose_acc": 1.0,
        "inst_level_strict_acc": 0.5,
        "inst_level_loose_acc": 1.0,
    }


def test_a_thought_is_not_part_of_the_answer_and_an_empty_answer_follows_nothing(tmp_path):
    benchmark = prepared(tmp_path, [PAIR, {**PAIR, "key": 100}])
    predictions, _ = judged(benchmark, ["<think>So, so</think>dog words", ""])
    assert [row.scores["inst_level_strict_acc"] for row in predictions] == [1.0, 0.0]


def test_hub_rows_with_null_arguments_make_the_same_items(tmp_path, monkeypatch):
    items = rows()[-5:]
    names = sorted({name for item in items for arguments in item["kwargs"] for name in arguments})
    on_hub = [
        {**item, "kwargs": [{name: given.get(name) for name in names} for given in item["kwargs"]]}
        for item in items
    ]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(on_hub))
    hub = prepare_benchmarks({"ifeval": load("ifeval")}, EvaluateConfig())["ifeval"]
    assert hub.examples == prepared(tmp_path, items).examples
    assert len(hub.examples) == 5


def test_items_that_need_absent_data_are_refused_by_name(tmp_path, no_punkt):
    items = rows(SENTENCES)
    with pytest.raises(ConfigError) as error:
        prepared(tmp_path, items)
    assert str(error.value) == (
        "benchmarks.ifeval: 2 items, such as 1000, need NLTK's data punkt_tab, which is absent (python -m "
        "nltk.downloader punkt_tab; or leave these items out, for another score: "
        "'benchmarks.ifeval.keep=not needs_punkt')"
    )
    assert [example.id for example in prepared(tmp_path, items, keep="not needs_punkt").examples] == ["99"]


def test_items_about_sentences_are_scored_where_the_data_is(tmp_path, punkt):
    benchmark = prepared(tmp_path, rows(SENTENCES))
    _, scores = judged(benchmark, [*(right for _, _, right, _ in SENTENCES), "dog words"])
    assert scores[0].value == 1.0
    _, scores = judged(benchmark, [*(wrong for _, _, _, wrong in SENTENCES), "dog words"])
    assert scores[0].value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction_id_list": ["keywords:new"]}, "item 99: unknown instruction 'keywords:new'"),
        ({"kwargs": [{}]}, "item 99: 2 instructions, but kwargs of 1"),
        ({"kwargs": [{"words": 3}, {}]}, "item 99: keywords:existence has wrong kwargs"),
        ({"instruction_id_list": []}, "item 99: the target is not a JSON object of prompt"),
    ],
)
def test_items_that_cannot_be_checked_are_refused_before_a_model_is_loaded(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, [{**PAIR, **change}])


@pytest.mark.peer
def test_results_are_those_of_the_harness_item_by_item(tmp_path, punkt, monkeypatch):
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk_data"))
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk_data")])
    import langdetect
    from lm_eval.tasks.ifeval import utils

    monkeypatch.setattr(langdetect.DetectorFactory, "seed", 0)
    cases = (*CASES, *SENTENCES)
    items = rows(cases)
    benchmark = prepared(tmp_path, items)
    texts = [text for _, _, *pair in cases for text in pair] + [
        "dog words",
        "*dog*, words\n\nBye.",
        "",
        ENGLISH,
    ]
    draw = random.Random(0)
    for _ in range(4):
        answers = draw.choices(texts, k=len(items))
        if draw.random() < 0.5:
            answers = ["Sure:\n" + answer for answer in answers]
        predictions, scores = judged(benchmark, answers)
        totals: dict[str, list[bool]] = {}
        for item, answer, prediction in zip(items, answers, predictions, strict=True):
            random.seed(0)
            theirs = utils.process_results(item, [answer])
            for name, value in theirs.items():
                followed = value if isinstance(value, list) else [value]
                totals.setdefault(name, []).extend(followed)
                assert prediction.scores[name] == sum(followed) / len(followed), (item, answer)
        for score in scores:
            assert score.value == pytest.approx(sum(totals[score.metric]) / len(totals[score.metric]))
