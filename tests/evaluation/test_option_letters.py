"""Options with letters of their own, moved: a perfect model stays perfect, a biased one gets its due."""

import json
import random
import re

import pytest

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import DataError
from workbench.evaluation.benchmarks.option_letters import moved
from workbench.evaluation.benchmarks.option_orders import combined
from workbench.evaluation.prepare_benchmarks import prepare
from workbench.evaluation.records import Answer, Example

LABELS = {
    "(A)": "({})",
    "A. ": "{}. ",
    "A、": "{}、",
    "（A） ": "（{}） ",
    "【A】": "【{}】",
    "a) ": "{}) ",
    "": "",
}
SHOWN = "{{ q }}\n{% for text in options %}{{ text }}\n{% endfor %}答案："
LETTERED = "{{ q }}\n{% for t in options %}{{ letters[loop.index0] }}. {{ t }}\n{% endfor %}答案："


def benchmark(tmp_path, label: str, **changes) -> BenchmarkConfig:
    """Twenty questions with four options, of which one is `right`; the options carry their letters."""
    rng = random.Random(3)
    rows = []
    for number in range(20):
        texts, gold = [f"wrong {number} {k}" for k in range(4)], rng.randrange(4)
        texts[gold] = f"right {number}"
        letters = "abcd" if label.startswith("{})") else "ABCD"
        options = [label.format(letters[k]) + text for k, text in enumerate(texts)]
        rows.append({"q": f"question {number}?", "options": options, "label": "ABCD"[gold]})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = {
        "language": "en",
        "path": str(tmp_path / "rows.jsonl"),
        "output_type": OutputType.multiple_choice,
        "question": SHOWN if label else LETTERED,
        "choices": ["A", "B", "C", "D"],
        "options": ["options"],
        "target": "{{ label }}",
    }
    return BenchmarkConfig(**settings | changes)


def examples(config: BenchmarkConfig, permutations: int = 4) -> list[Example]:
    return prepare("own", config, EvaluateConfig(permutations=permutations)).examples


def letter_of_right(question: str) -> int:
    """What the letter beside the right option is in a prompt, as a reader sees it."""
    [line] = [line for line in question.split("\n") if "right" in line]
    return "ABCD".index(re.findall(r"[A-Da-d]", line)[0].upper())


def share_of_right(found: list[Example], likelihoods) -> float:
    """What a model with these log-likelihoods of the letters gets."""
    right = 0
    for example in found:
        asked = [example, *example.rotations]
        whole = combined([Answer(loglikelihoods=tuple(likelihoods(one.questions[0]))) for one in asked])
        right += whole.loglikelihoods.index(max(whole.loglikelihoods)) == example.target
    return right / len(found)


def perfect(question: str) -> list[float]:
    return [0.0 if letter == letter_of_right(question) else -9.0 for letter in range(4)]


def biased(question: str) -> list[float]:
    """Knows the answer a little, and likes A much more."""
    return [
        (5.0 if letter == 0 else 0.0) + (1.0 if letter == letter_of_right(question) else 0.0)
        for letter in range(4)
    ]


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("permutations", [1, 2, 4])
def test_a_perfect_model_is_always_right(tmp_path, label, permutations):
    found = examples(benchmark(tmp_path, label), permutations)
    assert len(found[0].rotations) == permutations - 1
    assert share_of_right(found, perfect) == 1.0


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_a_model_that_likes_a_letter_gets_what_it_knows(tmp_path, label):
    config = benchmark(tmp_path, label)
    assert share_of_right(examples(config, 1), biased) < 0.5
    assert share_of_right(examples(config), biased) == 1.0


def test_every_order_shows_the_letters_in_their_order(tmp_path):
    [first, *_] = examples(benchmark(tmp_path, "({})"))
    for example in (first, *first.rotations):
        lines = example.questions[0].split("\n")[1:5]
        assert [line[:3] for line in lines] == ["(A)", "(B)", "(C)", "(D)"]
    assert len({example.questions[0] for example in (first, *first.rotations)}) == 4


@pytest.mark.parametrize(
    "texts",
    [
        ["A cat", "B flat", "C major", "D minor"],
        ["1.5 km", "2.5 km", "3.5 km", "4.5 km"],
        ["A. x", "y", "z", "w"],
        ["B：", "C：", "D：", "A："],
        [1, 2, 3, 4],
    ],
)
def test_texts_that_only_look_lettered_are_moved_as_they_are(texts):
    assert moved(texts, 1, "ABCD") == [texts[3], *texts[:3]]


@pytest.mark.parametrize(
    ("option", "is_moved"),
    [
        ("all of the above", False),
        ("None of the above.", False),
        ("Both A and B", False),
        ("(A) or (C) only", False),
        ("以上都对", False),
        ("A、B、C", False),
        ("A和D", False),
        ("选项B与C", False),
        ("60岁以上的人", True),
        ("above 30 degrees", True),
        ("Vitamin A", True),
        ("type A blood and type AB", True),
        ("I and II", True),
    ],
)
def test_options_that_speak_of_others_are_asked_in_one_order_and_counted(tmp_path, option, is_moved):
    config = benchmark(tmp_path, "")
    rows_of(tmp_path, options=["x", "y", "z", option])
    prepared = prepare("own", config, EvaluateConfig(permutations=4))
    assert len(prepared.examples[0].rotations) == (3 if is_moved else 0)
    said = [warning for warning in prepared.warnings if "1 items are asked in one order only" in warning]
    assert bool(said) is not is_moved


@pytest.mark.parametrize(
    ("question", "is_moved"),
    [
        ("A and B are both true. What follows?", False),
        ("选项A为何错误？", False),
        ("下列说法A、B均正确的是", False),
        ("Which vitamin is A?", True),
        ("The above text is about rivers. Which one?", True),
    ],
)
def test_options_whose_letters_the_question_names_are_asked_in_one_order(tmp_path, question, is_moved):
    config = benchmark(tmp_path, "")
    rows_of(tmp_path, q=question, options=["x", "y", "z", "w"])
    prepared = prepare("own", config, EvaluateConfig(permutations=4))
    assert len(prepared.examples[0].rotations) == (3 if is_moved else 0)
    assert any("1 items are asked in one order only" in text for text in prepared.warnings) is not is_moved


def test_digits_are_letters_where_the_choices_are_digits(tmp_path):
    assert moved(["1. x", "2. y", "3. z"], 1, "123") == ["1. z", "2. x", "3. y"]
    assert moved(["1. x", "2. y", "3. z"], 1, "ABC") == ["3. z", "1. x", "2. y"]


def rows_of(tmp_path, **row) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"q": "q?", "label": "A"} | row), encoding="utf-8")


def refused(config: BenchmarkConfig) -> str:
    assert examples(config, 1)
    with pytest.raises(DataError) as caught:
        examples(config)
    return str(caught.value)


def test_options_whose_own_letters_are_in_another_order_are_refused(tmp_path):
    config = benchmark(tmp_path, "({})")
    rows_of(tmp_path, options=["(B)x", "(A)y", "(D)z", "(C)w"])
    assert "whose own letters are not A, B, C, D in this order ('(B)x', '(A)y'" in refused(config)
    config.question = LETTERED
    assert len(examples(config)[0].rotations) == 3


def test_options_that_the_question_does_not_show_are_refused(tmp_path):
    config = benchmark(
        tmp_path, "", question="{{ q }} {{ options[0] }}, {{ options[1] }} or {{ options[3] }}?"
    )
    assert "`question` doesn't show option C (`options` must" in refused(config)
    config.question = "{{ q }} {{ query }}"
    rows_of(tmp_path, options=["x", "y", "z", "w"], query="A. x B. y C. z D. w")
    assert "moves the options (options), but `question` doesn't show option A" in refused(config)


def test_options_in_another_order_than_the_question_shows_are_refused(tmp_path):
    row = {"D": "d", "C": "c", "B": "b", "A": "a"}
    config = benchmark(tmp_path, "", options=["D", "C", "B", "A"])
    config.question = "{{ q }}{% for l in letters[:4] %}\n{{ l }}. {{ row[l] }}{% endfor %}"
    rows_of(tmp_path, **row)
    assert "`question` shows the options in another order than `options`: D, C, B, A" in refused(config)
    config.options = ["A", "B", "C", "D"]
    assert len(examples(config)[0].rotations) == 3
