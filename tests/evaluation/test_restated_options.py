"""Letters of options that a text repeats from its question are not its answer; what follows them may be."""

import pytest

from workbench.evaluation.extraction.extract import letter
from workbench.evaluation.extraction.restated_options import option_lists

STEM = "支配上斜肌的神经是"
OPTIONS = "A. 展神经\nB. 动眼神经\nC. 视神经\nD. 滑车神经"
CAPITAL = "The capital of France is\n(A) Bonn\n(B) Rome\n(C) Paris\n(D) London"


@pytest.mark.parametrize(
    "text",
    [
        f"{STEM}\n{OPTIONS}",
        f"下列说法正确的是：\n{OPTIONS}",
        f"{STEM}\n\n" + OPTIONS.replace("\n", "\n\n"),
        f"{STEM}\n" + OPTIONS.replace(". ", "、"),
        CAPITAL,
        f"Choose the correct answer:\n{OPTIONS}",
        OPTIONS.rpartition("滑")[0],
        OPTIONS.rpartition("\n")[0],
        "A. decoder\nB.",
        "(A) one\n(B) two\n(C)",
        "A\nB\nC\nD",
    ],
)
def test_a_repeated_question_is_no_answer(text):
    assert letter(text) is None


@pytest.mark.parametrize("question", [f"{STEM}\n{OPTIONS}", CAPITAL, OPTIONS, f"下列正确的是\n{OPTIONS}"])
@pytest.mark.parametrize(
    "answer",
    [
        "C",
        "答案：C",
        "因此，正确答案是C。",
        "所以选C",
        "C. 视神经",
        "(C)",
        "Therefore, C.",
        "So C",
        "即C",
        "C正确",
    ],
)
def test_an_answer_after_the_repeated_question_counts(question, answer):
    assert letter(f"{question}\n{answer}") == "C"
    assert letter(f"{question}\n\n{answer}") == "C"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A. 错误\nB. 正确\nC. 错误\nD. 错误", "B"),
        ("答案：C\nA. 错误\nB. 错误\nC. 正确\nD. 错误", "C"),
        ("The answer is:\n\n**A. Paris**\n\nExplanation:\n- B. Rome: the capital of Italy\n- C. Bonn", "A"),
        ("The answer is:\n\nA. Paris\n\nB. Rome is wrong because it is in Italy.", "A"),
        ("正确的是：\nB. 动眼神经", "B"),
        ("A. Paris", "A"),
        ("A\n\nBecause of its position.", "A"),
    ],
)
def test_verdicts_on_options_and_lone_options_are_answers(text, expected):
    assert letter(text) == expected


def test_a_list_has_consecutive_lines_and_letters_in_order():
    [whole] = option_lists(f"{STEM}\n{OPTIONS}\nD. 滑车神经", "ABCD")
    assert len(whole.starts) == 4 and whole.is_certain
    assert option_lists("A. 一\n因为……\nB. 二", "ABCD") == ()
    assert option_lists("A. 一\nC. 三\nD. 四", "ABCD") == ()
    assert [
        options.is_certain for options in option_lists("A. 一\nB. 二\n\n无\nA. 一\nB. 二\nC.", "ABCD")
    ] == [
        False,
        True,
    ]
    assert option_lists("A\nB", "ABCD") == () and option_lists("A\nB", "AB")[0].is_certain


def test_long_texts_take_linear_time():
    text = "正确的是\nA. 一\nB. 二\nC. 三\n" * 10_000
    assert len(option_lists(text, "ABCD")) == 10_000
    assert letter(text) is None  # with all lists searched at each mark: a minute
