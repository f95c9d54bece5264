"""The metric math_verify gives math_verify's own results, and hostile answers end within its limit."""

import logging
from dataclasses import replace

import pytest

from workbench.errors import ConfigError
from workbench.evaluation.metrics import math_equality
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.metrics.table import METRICS
from workbench.evaluation.records import Answer, Example

HALF = r"\frac{1}{2}"
RIGHT = [
    (r"So \boxed{0.5}.", HALF),
    (r"\boxed{\dfrac{2}{4}}", HALF),
    ("The final answer is $1/2$. I hope it is correct.", HALF),
    ("The answer is 1/2.", HALF),
    (r"It is $\boxed{1}$. No: $\boxed{\frac12}$", HALF),
    ("<think>It is \\boxed{3}</think>\\boxed{0.5}", HALF),
    (r"\boxed{x = 5}", "5"),
    (r"\boxed{(x+1)^2}", "x^2+2x+1"),
    (r"\boxed{3, 1, 2}", "1,2,3"),
    (r"\boxed{\left(3, \frac{\pi}{2}\right)}", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"\boxed{(-\infty, 2) \cup (3, \infty)}", r"(-\infty,2)\cup(3,\infty)"),
    (r"\boxed{70000}", "70,000"),
    (r"\boxed{36}", r"\$36"),
    (r"\boxed{90}", r"90^\circ"),
    (r"\boxed{10\%}", r"10\%"),
    (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}"),
    (r"\boxed{\sqrt{242}}", r"11\sqrt{2}"),
    (r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\[ \boxed{6 - 5i} \]", "6 - 5i"),
    (r"\boxed{\frac{7}{2}}", r"3\frac{1}{2}"),
]
WRONG = [
    ("", HALF),
    ("I don't know.", HALF),
    (r"\boxed{0.51}", HALF),
    (r"\boxed{(x-1)^2}", "x^2+2x+1"),
    (r"\boxed{1, 2}", "1,2,3"),
    (r"\boxed{[3, \infty)}", r"(3, \infty)"),
    (r"\boxed{\text{Angela}}", r"\text{Evelyn}"),
    ("<think>It is \\boxed{0.5}", HALF),
    (r"\boxed{}", HALF),
    (r"\boxed{\frac{1}{0}}", HALF),
    (r"\boxed{", HALF),
    ("__import__('os').system('touch /tmp/run')", HALF),
]
HOSTILE = [
    (r"\boxed{9^{9^{9^{9}}}}", "9"),
    ("The answer is 9**9**9**9 + 1.", "9"),
    (r"\boxed{" + "(" * 3000 + "1" + ")" * 3000 + "}", "1.5"),
    (r"\boxed{\int_0^1 \sin(\cos(\sin(x^{99}))) dx}", "9"),
    (r"\boxed{10000000000!}", "9"),
]


@pytest.fixture
def installed():
    pytest.importorskip("math_verify")


def judged(text: str, right: str) -> Judged:
    return Judged(None, Answer(generation=text), Example(id="1", questions=("q",), target=right))


def values(pairs) -> list[float]:
    items = [judged(*pair) for pair in pairs]
    metric = metric_named("math_verify")
    metric.score_ahead(items)
    return [metric.score(*item) for item in items]


@pytest.mark.usefixtures("installed")
def test_answers_of_equal_value_are_right_and_others_wrong():
    assert values(RIGHT) == [1.0] * len(RIGHT)
    assert values(WRONG) == [0.0] * len(WRONG)


@pytest.mark.usefixtures("installed")
def test_results_are_those_of_math_verify_itself(recwarn):
    from math_verify import parse, verify

    pairs = [pair for pair in RIGHT + WRONG if "<think>" not in pair[0]]
    theirs = [float(verify(parse(f"${right}$"), parse(text))) for text, right in pairs]
    assert values(pairs) == theirs


@pytest.mark.usefixtures("installed")
def test_a_number_counts_only_where_a_text_states_it_as_its_answer():
    passing = ["It took 5 steps but I could not find it.", "用了5步。", "Use 5 apples\nand 5"]
    assert values([(text, "5") for text in passing]) == [0.0] * len(passing)
    stating = [
        "5",
        " 5.\n",
        "= 5",
        "x = 5",
        "The answer is 5.",
        "It is $5$.",
        "答案是 5",
        "**Answer:** 5",
        "So x = 5.",
        "Final result: 5",
        "It is \\(5\\).",
    ]
    assert values([(text, "5") for text in stating]) == [1.0] * len(stating)


@pytest.mark.usefixtures("installed")
def test_hostile_answers_end_within_the_limit_and_alone(caplog, monkeypatch):
    monkeypatch.setattr(math_equality.MATH_VERIFY, "max_seconds", 1.0)
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    mixed = [pair for hostile in HOSTILE for pair in (hostile, RIGHT[0])]
    assert values(mixed) == [0.0, 1.0] * len(HOSTILE)
    assert "answers took more than 1 seconds to check, and count as wrong" in caplog.text


@pytest.mark.usefixtures("installed")
def test_the_answer_that_the_benchmark_extracts_precedes_what_math_verify_finds():
    example = Example(id="1", questions=("q",), target=HALF)
    text = r"So \boxed{3} then \boxed{0.5}."
    assert math_equality.states_target(None, Answer(generation=text), example) == 0.0
    for thought in ("", r"<think>\boxed{7}</think>"):
        answer = Answer(generation=thought + "It is $0.5$.", extracted="It is $0.5$.")
        assert math_equality.states_target(None, answer, example) == 1.0
    for extracted, value in (("0.5", 1.0), (r"\tfrac12", 1.0), ("3", 0.0), (text, 0.0)):
        answer = Answer(generation=text, extracted=extracted)
        assert math_equality.states_target(None, answer, example) == value


@pytest.mark.usefixtures("installed")
def test_one_of_several_right_answers_is_enough():
    example = Example(id="1", questions=("q",), target=("7", HALF))
    assert math_equality.states_target(None, Answer(generation=r"\boxed{0.5}"), example) == 1.0


def test_the_metric_is_refused_by_name_without_its_package(monkeypatch):
    absent = replace(METRICS["math_verify"], needs=("package_that_is_absent",))
    monkeypatch.setitem(METRICS, "math_verify", absent)
    with pytest.raises(ConfigError, match=r"metrics: 'math_verify' needs package_.*workbench\[math\]'\)"):
        metric_named("math_verify")
