import pytest

from workbench.config.benchmark import Extract, GenerationConfig
from workbench.evaluation import answers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She makes 9 * 2 = $18 a day.\n#### 18", "18"),
        ("所以答案是1,234元。另外还有5个。", "1234"),
        ("The answer is $3.50 because 7/2 = 3.5, see page 12", "3.5"),
        ("总共有７２个苹果", "72"),
        ("it is -4", "-4"),
        ("1000.00", "1000"),
        ("没有数字", None),
    ],
)
def test_numbers_are_found_in_chinese_and_english_texts(text, expected):
    assert answers.number(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "B"),
        ("B. 因为水是湿的", "B"),
        ("（Ｃ）", "C"),
        ("答案是：D", "D"),
        ("正确答案为【A】。", "A"),
        ("首先排除A和B，故选C。", "C"),
        ("Let's think. A is wrong, so the answer is (D).", "D"),
        ("The correct option is **B**", "B"),
        ("I would say C, obviously", "C"),
        ("A or B, hard to say; C too", None),
        ("An answer is a sentence", None),
        ("", None),
    ],
)
def test_letters_are_found_in_chinese_and_english_texts(text, expected):
    assert answers.letter(text) == expected


def test_a_pattern_takes_the_last_match():
    how = GenerationConfig(extract=Extract.pattern, pattern=r"答案是 ?([A-D])")
    assert answers.extract("答案是A。不，答案是 C", how) == "C"
    assert answers.extract("不知道", how) is None


def test_verbatim_text_is_only_trimmed():
    assert answers.extract("  北京 \n", GenerationConfig()) == "北京"


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
    assert answers.number_after_marks(text) == strict
    assert answers.last_number(text) == flexible
