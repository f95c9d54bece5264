"""Which rows are held out of training, and that none of their questions is trained on."""

import random
from dataclasses import replace

import pytest

from workbench.config.data import DataConfig, SourceConfig
from workbench.config.model import Task
from workbench.data.holdout import hold_out, normal_form
from workbench.data.rows import Row, load_rows
from workbench.data.streaming import are_held_out

CAUSAL, LABELLED = Task.causal_lm, Task.sequence_classification
DATA = DataConfig(path="a.jsonl")


def rows_of(prompts):
    return [
        Row({"prompt": prompt, "completion": str(n)}, f"a.jsonl:{n}") for n, prompt in enumerate(prompts, 1)
    ]


def numbered(count):
    return rows_of([f"What is {number} and one?" for number in range(count)])


@pytest.mark.parametrize(("count", "held_out"), [(199, 0), (200, 20), (1000, 50), (20_000, 500)])
def test_five_percent_are_held_out_at_least_twenty_and_at_most_five_hundred(count, held_out):
    split = hold_out(numbered(count), DATA, CAUSAL)
    assert (len(split.held_out), len(split.training)) == (held_out, count - held_out)
    assert ("only 199" in split.reason) == (count == 199)


@pytest.mark.parametrize("fraction", [None, 0.1])
def test_what_is_held_out_depends_on_the_rows_not_on_their_order(fraction):
    data, rows = replace(DATA, validation_fraction=fraction), numbered(300)
    mixed = random.Random(0).sample(rows, len(rows))

    def chosen(some):
        return {row.where for row in hold_out(some, data, CAUSAL).held_out}

    assert chosen(rows) == chosen(mixed)
    assert [row.where for row in hold_out(rows, data, CAUSAL).training] == [
        row.where for row in rows if row.where not in chosen(rows)
    ]


def test_prompts_that_differ_in_case_width_space_and_punctuation_come_to_one_side():
    forms = ("Name the lord of {} .", "name the LORD of {}", "Ｎame the  lord of {} !?")
    split = hold_out(rows_of(f.format(n) for n in range(150) for f in forms), DATA, CAUSAL)
    names = [{row.values["prompt"].split()[4] for row in side} for side in (split.training, split.held_out)]
    assert len(split.held_out) == 21 and not names[0] & names[1]  # 5% of 450 are 22: seven groups of three


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("What is 3-4?", "what is 3 - 4", True),
        ("今天天气好吗？", "今天 天气，好吗", True),
        ("What is 3-4?", "What is 3/4?", False),
        ("What is -3?", "What is 3?", False),
        ("Is it 3%?", "Is it 3?", False),
        ("a < b", "a > b", False),
        ("???", "!!!", False),
    ],
)
def test_the_normal_form_keeps_what_belongs_to_a_number(first, second, alike):
    assert (normal_form(first) == normal_form(second)) is alike


def test_a_prompt_that_makes_up_too_many_rows_stays_in_training():
    rows = rows_of(["the same"] * 150 + [f"another {number}" for number in range(150)])
    split = hold_out(rows, DATA, CAUSAL)
    assert len(split.held_out) == 20 and "the same" not in {row.values["prompt"] for row in split.held_out}
    alone = hold_out(rows_of(["the same"] * 300), DATA, CAUSAL)
    assert not alone.held_out and "1 different prompts" in alone.reason


def test_chats_are_held_apart_by_all_that_stands_before_the_last_answer():
    def chat(*texts):
        roles = ("user", "assistant", "user", "assistant")
        return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]

    values = [chat("Hello", "Hi", f"Question {number // 2}", f"{number}") for number in range(400)]
    rows = [Row({"messages": value}, f"a.jsonl:{number}") for number, value in enumerate(values)]
    split = hold_out(rows, DATA, CAUSAL)
    sides = [
        {row.values["messages"][2]["content"] for row in side} for side in (split.training, split.held_out)
    ]
    assert len(split.held_out) == 20 and not sides[0] & sides[1]


def chats_and_their_beginnings(count):
    """Rows of one turn, and as many of two turns that begin with the same question and answer."""
    first = [
        [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"a {n}"}]
        for n in range(count)
    ]
    more = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    chats = [*first, *[[*turns, *more] for turns in first]]
    return [Row({"messages": chat}, f"a.jsonl:{n}") for n, chat in enumerate(chats, 1)]


def first_questions(rows):
    return {row.values["messages"][0]["content"] for row in rows}


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_a_chat_that_begins_as_another_row_is_not_held_out_while_that_is_trained_on(fraction):
    data = DataConfig(path="a.jsonl", validation_fraction=fraction)
    split = hold_out(chats_and_their_beginnings(150), data, CAUSAL)
    assert split.held_out and not first_questions(split.training) & first_questions(split.held_out)


@pytest.mark.parametrize("fraction", [None, 0.1])
def test_an_opening_that_most_chats_share_ties_none_of_them_and_is_said(fraction):
    opening = [{"role": "user", "content": "Begin."}, {"role": "assistant", "content": "Ready."}]
    chats = [
        [*opening, {"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": "It."}]
        for n in range(300)
    ]
    rows = [Row({"messages": chat}, f"a.jsonl:{n}") for n, chat in enumerate([opening, *chats], 1)]
    data = DataConfig(path="a.jsonl", validation_fraction=fraction)
    split = hold_out(rows, data, CAUSAL)
    assert len(split.held_out) >= 20 and opening not in [row.values["messages"] for row in split.held_out]
    assert f"{len(split.held_out)} of them begin with a question that training rows ask, too" in str(split)


def test_streamed_rows_of_one_prompt_come_to_one_side():
    rows = rows_of(f"What is {number // 4}?" for number in range(400))
    data = DataConfig(path="a.jsonl", validation_fraction=0.1, streaming=True)
    sides = {}
    for row, held_out in zip(rows, are_held_out(rows, data, CAUSAL), strict=True):
        sides.setdefault(row.values["prompt"], set()).add(held_out)
    assert {True} in sides.values() and all(len(side) == 1 for side in sides.values())


def test_texts_of_a_classifier_are_held_apart_whatever_their_class():
    rows = [Row({"text": f"text {n // 2}", "label": "ab"[n % 2]}, f"a.jsonl:{n}") for n in range(400)]
    split = hold_out(rows, DATA, LABELLED)
    assert not {row.values["text"] for row in split.training} & {row.values["text"] for row in split.held_out}


def test_each_source_is_read_in_its_own_format(write):
    write("a.jsonl", [{"instruction": f"do {n}", "output": "x"} for n in range(150)])
    folder = write("b.jsonl", [{"text": f"story {n}"} for n in range(150)]).removesuffix("b.jsonl")
    sources = {name: SourceConfig(path=f"{folder}{name}.jsonl") for name in ("a", "b")}
    data = DataConfig(sources=sources)
    assert len(hold_out(load_rows(data), data, CAUSAL).held_out) == 20


def test_with_a_fraction_given_the_rows_are_those_of_before_but_for_questions_that_training_asks():
    rows = rows_of([f"What is {number // 2} and one?" for number in range(100)])
    data = DataConfig(path="a.jsonl", validation_fraction=0.1)
    split = hold_out(rows, data, CAUSAL)
    assert split.num_near + len(split.held_out) == 10 and split.num_near > 0
    assert f"{split.num_near} more left out" in str(split)
    assert len(split.training) == 90
    asked = {row.values["prompt"] for row in split.training}
    assert not asked & {row.values["prompt"] for row in split.held_out}


def test_a_fraction_of_zero_holds_nothing_out_and_says_nothing():
    split = hold_out(numbered(300), DataConfig(path="a.jsonl", validation_fraction=0.0), CAUSAL)
    assert (len(split.training), split.held_out, str(split)) == (300, [], "")
