"""Answers to Chinese prompts are checked as Multi-IF checks them: words, sentences, quotation marks."""

from pathlib import Path

import pytest
from test_instructions import written
from test_shipped_benchmarks import load
from test_targets import judged

from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.checkers import chinese_instructions
from workbench.evaluation.metrics import instructions
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark

for package in ("lm_eval", "langdetect", "immutabledict", "emoji"):
    pytest.importorskip(package)

ENGLISH = "This is a short answer in the English language, which says nothing of any interest."
CHINESE = "今天的天气非常好，我们一起去公园散步。"
WORDS, SENTENCES = "length_constraints:number_words", "length_constraints:number_sentences"
CASES = (
    (
        WORDS,
        {"num_words": 300, "relation": "at least"},
        "我们都喜欢在公园里面散步，" * 25,
        "我们都喜欢在公园里面散步，" * 24,
    ),
    (WORDS, {"num_words": 17, "relation": "less than"}, CHINESE[1:], CHINESE),
    (
        WORDS,
        {"num_words": 18, "relation": "at least"},
        "我们今天在公园里散步，看见一只 e-dog 😀😀😀",
        "我们今天在公园里散步，看见一只 e-dog 😀😀",
    ),
    (WORDS, {"num_words": 14, "relation": "less than"}, ENGLISH[:50], ENGLISH),
    ("startend:quotation", {}, f"“{CHINESE}”", f"《{CHINESE}》"),
    ("startend:quotation", {}, f"「{CHINESE}」", f"“{CHINESE}"),
    ("startend:quotation", {}, f'"{CHINESE}"', CHINESE),
    ("keywords:existence", {"keywords": ["公园", "天气"]}, CHINESE, "今天的天气非常好。"),
    ("keywords:frequency", {"keyword": "好", "frequency": 2, "relation": "at least"}, "好，很好。", "很好。"),
    ("keywords:forbidden_words", {"forbidden_words": ["雨"]}, "今天下雨。", "今天，雨。"),
    ("punctuation:no_comma", {}, CHINESE, "今天,天气很好。"),
    ("detectable_format:title", {}, f"<<天气>>\n{CHINESE}", f"《天气》\n{CHINESE}"),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        "*今天* 和 *明天*",
        "*今天*和明天",
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        "再见。\nP.S. 写信。",
        "再见。\n附：写信。",
    ),
    ("startend:end_checker", {"end_phrase": "完。"}, "今天下雨。完。", "今天下雨。"),
    ("language:response_language", {"language": "zh"}, CHINESE, ENGLISH),
    (
        "language:response_language",
        {"language": "zh-tw"},
        "臺灣的氣候溫暖，這裡的學校與機場都很漂亮。",
        CHINESE,
    ),
    ("language:response_language", {"language": "en"}, ENGLISH, CHINESE),
)
COUNTED = (
    (
        SENTENCES,
        {"num_sentences": 3, "relation": "less than"},
        "今天很好。我们散步！",
        "今天很好。我们散步！你呢？",
    ),
    (
        SENTENCES,
        {"num_sentences": 3, "relation": "at least"},
        "今天很好\n我们散步\n你们呢",
        "今天很好……我们散步；你们呢。",
    ),
    (SENTENCES, {"num_sentences": 2, "relation": "less than"}, ENGLISH, f"{ENGLISH} {ENGLISH}"),
)
"""Instructions that need NLTK's data, which counts the sentences of answers that are not Chinese."""


def rows(cases=CASES) -> list[dict]:
    return [
        {
            "key": key,
            "prompt": f"写一句话：{name}，关于今天的天气。",
            "instruction_id_list": [name],
            "kwargs": [arguments],
        }
        for key, (name, arguments, _, _) in enumerate(cases)
    ]


def prepared(folder: Path, items: list[dict], **changes) -> PreparedBenchmark:
    config = load("ifeval", path=written(folder, items), language="zh", **changes)
    return prepare_benchmarks({"ifeval": config}, EvaluateConfig())["ifeval"]


def check(benchmark: PreparedBenchmark, cases) -> None:
    """Each case's third text follows its instruction, and its fourth one doesn't."""
    for column, expected in ((2, 1.0), (3, 0.0)):
        predictions, scores = judged(benchmark, [case[column] for case in cases])
        for prediction, case in zip(predictions, cases, strict=True):
            assert set(prediction.scores.values()) == {expected}, case
        assert {score.value for score in scores} == {expected}


def test_each_instruction_is_followed_by_one_chinese_answer_and_not_by_the_other(tmp_path):
    check(prepared(tmp_path, rows()), CASES)


def test_sentences_end_with_a_mark_of_either_width_or_with_a_line(tmp_path, punkt):
    check(prepared(tmp_path, rows(COUNTED)), COUNTED)


@pytest.mark.parametrize(
    ("text", "words", "sentences"),
    [
        ("", 0, 0),
        ("今天天气很好。", 6, 1),
        ("今天 天气，很好！", 6, 1),
        ("我有3只猫。它们叫Tom和Jerry.", 11, 2),
        ("你好☺☺ world-wide 【好】", 8, 1),
        ("好吗？？\n\n好．", 3, 2),
        ("你好。 。", 2, 2),
        ("他来了．我走了", 6, 2),
        ("家庭 👨‍👩‍👧 很好", 5, 1),
        ("こんにちは、ジェイソンさん", 12, 1),
        ("안녕 하세요", 5, 1),
    ],
)
def test_words_and_sentences_are_those_counted_by_hand(text, words, sentences):
    assert (chinese_instructions.num_words(text), chinese_instructions.num_sentences(text)) == (
        words,
        sentences,
    )


def test_sentences_of_a_hindi_answer_end_with_a_danda():
    assert chinese_instructions.num_hindi_sentences("यह एक है। वह दो है। कौन? ") == 3


def test_an_answer_in_thai_follows_no_instruction_about_its_length(tmp_path):
    cases = [
        (WORDS, {"num_words": number, "relation": relation}, "", "")
        for number, relation in ((1, "at least"), (900, "less than"))
    ]
    predictions, _ = judged(prepared(tmp_path, rows(cases)), ["วันนี้อากาศดีมาก เราไปเดินเล่นกัน"] * 2)
    assert [set(prediction.scores.values()) for prediction in predictions] == [{0.0}, {0.0}]


def test_a_keyword_that_is_a_wrong_pattern_is_never_found_and_other_instructions_count(tmp_path):
    keyword = {"keyword": "(", "frequency": 1, "relation": "less than"}
    names = ["keywords:frequency", "punctuation:no_comma"]
    item = {**rows()[0], "instruction_id_list": names, "kwargs": [keyword, {}]}
    [prediction], _ = judged(prepared(tmp_path, [item]), [CHINESE])
    assert prediction.scores["inst_level_strict_acc"] == 0.5


def test_zero_is_a_number_and_not_an_absent_argument(tmp_path):
    case = (WORDS, {"num_words": 0, "relation": "at least"}, "", "")
    [prediction], _ = judged(prepared(tmp_path, rows([case])), [CHINESE])
    assert prediction.scores["inst_level_strict_acc"] == 1.0


def test_chinese_prompts_are_refused_where_the_benchmark_is_english_and_the_error_names_the_way_out(tmp_path):
    with pytest.raises(ConfigError) as error:
        prepare_benchmarks({"ifeval": load("ifeval", path=written(tmp_path, rows()))}, EvaluateConfig())
    assert str(error.value) == (
        "benchmarks.ifeval: 18 items, such as 0, are Chinese, and IFEval's checkers know English words, "
        "sentences and punctuation alone (checkers for Chinese, for all items: benchmarks.ifeval.language=zh)"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction_id_list": ["keywords:new"]}, "item 0: unknown instruction 'keywords:new'"),
        ({"kwargs": [{"words": 3}]}, "item 0: length_constraints:number_words has wrong kwargs"),
        (
            {"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "xx"}]},
            "item 0: language:response_language has wrong kwargs, 'xx'",
        ),
    ],
)
def test_items_that_cannot_be_checked_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, [{**rows()[0], **change}])


def test_the_checker_answers_where_the_package_is_a_checkout_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    item = {
        "prompt": "写。",
        "instruction_id_list": [WORDS],
        "kwargs": [{"num_words": 1, "relation": "at least"}],
    }
    question = {**item, "language": "zh", "response": CHINESE + "一二三"}
    assert instructions.IFEVAL.ask(question) == {"strict": [True], "loose": [True]}
