import re
from pathlib import Path

import pytest
import yaml
from answer_cases import LETTERS, NUMBERS, OTHER_LETTERS, SAME_NUMBERS, SEVERAL_LETTERS

from workbench.config.benchmark import Extract, GenerationConfig
from workbench.evaluation.extraction import extract
from workbench.evaluation.metrics.table import METRICS
from workbench.evaluation.records import Answer, Example

NUMBER = GenerationConfig(extract=Extract.number)
LETTER = GenerationConfig(extract=Extract.letter)

HOSTILE = {
    "digits": "1" * 100_000,
    "groups": "1,23" * 25_000,
    "spaced": "1 234 " * 17_000,
    "numerals": "一百万" * 33_000,
    "letters": "A、B、" * 25_000,
    "capitals": "AB" * 50_000,
    "marks": "答案是" * 33_000,
    "English marks": "the answer is " * 7_000,
    "not": "not " * 25_000,
    "spaces": "answer" + " " * 100_000,
    "newlines": "\n" * 100_000,
    "boxes": r"\boxed{" * 14_000,
    "braces": r"\text{" * 16_000,
    "fractions": r"\frac{1}{" * 11_000,
    "stars": "**1" * 33_000,
    "equations": "答案是1" + "=1+" * 33_000,
    "slashes": "1/" * 50_000,
    "powers": "2^" * 50_000,
    "thoughts": "<think>" * 14_000,
    "ends of thoughts": "</think>" * 12_000,
    "questions": "\nQuestion" * 11_000,
    "brackets": "(" * 100_000,
    "enclosed": "(A) (B) " * 12_000,
    "superscripts": "1⁰" * 50_000,
    "minus signs": "-" * 100_000,
    "points": "点" * 100_000,
    "percents": "百分之" * 33_000,
    "mixed numbers": "1又" * 50_000,
}


def rows(table):
    return [pytest.param(*row, id=f"{kind}: {row[0][:40]}") for kind, rows in table.items() for row in rows]


@pytest.mark.parametrize(("text", "expected"), rows(NUMBERS))
def test_the_number_that_a_text_states_is_found(text, expected):
    assert extract.number(text) == expected


@pytest.mark.parametrize(("text", "expected"), rows(LETTERS))
def test_the_letter_that_a_text_states_is_found(text, expected):
    assert extract.letter(text) == expected


@pytest.mark.parametrize(("text", "letters", "expected"), OTHER_LETTERS)
def test_only_letters_of_the_choices_are_answers(text, letters, expected):
    assert extract.letter(text, letters) == expected


@pytest.mark.parametrize(("text", "expected"), SEVERAL_LETTERS)
def test_several_letters_are_an_answer_where_the_benchmark_has_several(text, expected):
    assert extract.letter(text, several=True) == expected


@pytest.mark.parametrize(("text", "target"), SAME_NUMBERS)
def test_prediction_and_target_are_normalised_alike(text, target):
    assert extract.extract(text, NUMBER) in extract.references(target, NUMBER)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("B", "B"), ("（ｂ）", "B"), ("C. Paris", "C"), ("B、D", "BD"), ("A B D", "ABD"), ("CA", "AC")],
)
def test_a_target_is_read_as_letters_where_answers_are(target, expected):
    assert extract.references(target, LETTER) == (expected,)


@pytest.mark.parametrize(
    ("target", "how"), [("Paris", LETTER), ("E", LETTER), ("x + 1", LETTER), ("无", NUMBER)]
)
def test_a_target_that_no_answer_can_equal_has_no_references(target, how):
    assert extract.references(target, how, "ABCD") is None


@pytest.mark.parametrize("target", ["", "about as many", "3 apples and 2 pears", "between 10 and 20"])
def test_a_target_without_a_single_number_has_no_references(target):
    assert extract.references(target, NUMBER) is None


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_text_is_read_to_its_end(kind):
    for how in (NUMBER, LETTER):
        found = extract.extract(HOSTILE[kind], how)
        assert found is None or len(found) < 1000


@pytest.mark.parametrize("exponent", ["1e99999", "10^99999", "9^999", "1e-99999"])
def test_an_absurd_exponent_is_not_worked_out(exponent):
    assert len(extract.number(f"The answer is {exponent}") or "") < 1000


def test_a_pattern_takes_the_last_match():
    how = GenerationConfig(extract=Extract.pattern, pattern=r"答案是 ?([A-D])")
    assert extract.extract("答案是A。不，答案是 C", how) == "C"
    assert extract.extract("不知道", how) is None
    assert extract.references("答案是 C", how) == extract.references("C", how) == ("C",)


def test_the_group_of_a_pattern_that_took_part_is_the_answer():
    how = GenerationConfig(extract=Extract.pattern, pattern=r"answer is (\d+)|答案是(\d+)")
    assert extract.extract("答案是7", how) == extract.extract("the answer is 7", how) == "7"


def test_verbatim_text_is_only_trimmed():
    assert extract.extract("  北京 \n", GenerationConfig()) == "北京"
    assert extract.references("北京 ", GenerationConfig()) == ("北京 ",)


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("#### 5\nSo she has 7 left", "5", "7"),
        ("The answer is 18 because she sold 9 eggs for 2 dollars.", "[invalid]", "2"),
        ("#### 1,234.\n", "1234", "1234"),
        ("It costs $3.50.", "[invalid]", "3.50"),
        ("nothing", "[invalid]", "[invalid]"),
    ],
)
def test_gsm8k_answers_are_found_as_lm_evaluation_harness_finds_them(text, strict, flexible):
    assert extract.number_after_marks(text) == strict
    assert extract.last_number(text) == flexible


@pytest.mark.parametrize(
    ("text", "whole", "last"),
    [
        ("18", 1.0, 1.0),
        (" $18.\n", 1.0, 1.0),
        ("所以一共是18个", 0.0, 1.0),
        ("先是18，后来是5", 0.0, 0.0),
        ("18.00", 0.0, 0.0),
        ("1.8", 1.0, 1.0),
        ("十八", 0.0, 0.0),
    ],
)
def test_mgsm_answers_are_compared_as_lm_evaluation_harness_does_without_punctuation(text, whole, last):
    example, answer = Example(id="0", questions=("",), target="18"), Answer(generation=text)
    for name, expected in (("unpunctuated_match", whole), ("flexible_unpunctuated_match", last)):
        metric = METRICS[name]
        assert metric.score(metric.judge(answer, example), answer, example) == expected


@pytest.mark.peer
def test_gsm8k_answers_are_those_of_the_harness_s_own_filters_over_all_texts():
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.filters.extraction import RegexFilter

    path = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
    task = yaml.safe_load(path.read_text(encoding="utf-8"))
    ignored = task["metric_list"][0]["regexes_to_ignore"]
    texts = [text for table in (NUMBERS, LETTERS) for cases in table.values() for text, _ in cases]
    ours = (extract.number_after_marks, extract.last_number)
    for settings, find in zip(task["filter_list"], ours, strict=True):
        regex = {key: value for key, value in settings["filter"][0].items() if key != "function"}
        found = [answer for [answer] in RegexFilter(**regex).apply([[text] for text in texts], [])]
        for text, answer in zip(texts, found, strict=True):
            for pattern in ignored:
                answer = re.sub(pattern, "", answer)
            assert find(text) == answer, text


@pytest.mark.parametrize(
    "text",
    [
        "答案：B\n\n错因分析：A",
        "答案：B\n排除A、C",
        "答案：B\n不正确的选项是A",
        "正确答案：B\n错误答案：A",
        "B\n错误的原因是看错了题",
        "Correct answer: B\nWrong answer: A",
        "Answer: B. Incorrect options: A, C",
        "A\n错误\nB\n正确",
    ],
)
def test_what_a_new_line_calls_wrong_is_not_the_answer_before_it(text):
    assert extract.letter(text, "ABCD") == "B"
