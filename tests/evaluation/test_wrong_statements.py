"""Answers to questions that ask for the wrong statement, and texts that only call an option wrong."""

import pytest
from test_answers import HOSTILE

from workbench.config.benchmark import BenchmarkConfig, Extract, GenerationConfig, OutputType
from workbench.evaluation.extraction.letters import letter
from workbench.evaluation.extraction.sought import seeks_wrong
from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.generation import extracted

OPTIONS = "\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案："
ASKED = [
    ("下列关于光合作用的说法，错误的是", True),
    ("以下叙述中不正确的是（    ）", True),
    ("下面哪句话是错误的？", True),
    ("下列对该图的理解有误的一项是", True),
    ("下列做法不符合安全规定的是：", True),
    ("Which of the following statements is incorrect?", True),
    ("Which of these is NOT true about mitosis?", True),
    ("下列说法正确的是", False),
    ("关于第一类错误，下列说法正确的是（　）", False),
    ("Which of the following statements about a false positive is correct?", False),
    ("两个样本均数比较时，第二类错误最小的检验水准是", None),
    ("中国的首都是", None),
    ("What is a false friend in translation?", None),
]


@pytest.mark.parametrize(("question", "expected"), ASKED)
def test_a_question_tells_whether_the_wrong_statement_is_asked_for(question, expected):
    assert seeks_wrong(question + OPTIONS, "ABCD") is expected


def test_a_question_without_lettered_options_tells_nothing():
    assert seeks_wrong("下列说法错误的是", "ABCD") is None
    assert seeks_wrong("", "ABCD") is None


WRONG_NAMED = [
    "错误的选项是B。",
    "说法错误的是B。",
    "错误选项：B",
    "不正确的一项是B",
    "The incorrect option is B.",
]
WRONG_CALLED = [
    "B是错误的。",
    "B选项错误，A、C、D都正确。",
    "A、C、D正确，B不正确。",
    "Option B is incorrect.",
]


@pytest.mark.parametrize("text", WRONG_NAMED)
def test_what_is_named_as_wrong_is_the_answer_unless_the_right_statement_is_asked_for(text):
    assert [letter(text, seeks_wrong=sought) for sought in (True, None, False)] == ["B", "B", None]


@pytest.mark.parametrize("text", WRONG_CALLED)
def test_what_is_called_wrong_is_the_answer_where_the_wrong_statement_is_asked_for(text):
    assert [letter(text, seeks_wrong=sought) for sought in (True, None, False)] == ["B", None, None]


@pytest.mark.parametrize("sought", [True, None, False])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A、C、D正确，B错误，故选B。", "B"),
        ("A错误，C错误，所以答案是B。", "B"),
        ("B是错误的，因此答案为B", "B"),
        ("The answer is B because A is wrong.", "B"),
        ("A和B都是错误的。", None),
    ],
)
def test_an_announced_answer_precedes_what_is_called_wrong(text, expected, sought):
    assert letter(text, seeks_wrong=sought) == expected


def test_the_question_of_an_item_decides():
    config = BenchmarkConfig(
        language="zh", output_type=OutputType.generation, generation=GenerationConfig(extract=Extract.letter)
    )
    for question, expected in (("下列说法错误的是", "B"), ("下列说法正确的是", None)):
        example = Example(id="0", questions=(question + OPTIONS,), choices=("A", "B", "C", "D"), target="B")
        assert extracted(Answer(generation="B项错误。"), example, config).extracted == expected


HOSTILE_HERE = HOSTILE | {"wrong marks": "不正确的说法是" * 15_000, "wrong letters": "A不正确" * 25_000}


@pytest.mark.parametrize("kind", HOSTILE_HERE)
def test_a_hostile_text_is_read_to_its_end_for_the_wrong_statement(kind):
    assert letter(HOSTILE_HERE[kind], seeks_wrong=True) in (None, *"ABCD")
    assert seeks_wrong(HOSTILE_HERE[kind] + "\nA. 甲", "ABCD") in (None, False, True)
