import pytest

from workbench.config.data import DataConfig, DataFormat
from workbench.config.model import Task
from workbench.data.conversations import (
    BEGINS_WITH_ANSWER,
    SYSTEM_CONFLICT,
    SYSTEM_TWICE,
    SYSTEM_UNREAD,
    conversation,
)
from workbench.data.encode import Encoding, encode
from workbench.data.rows import Row
from workbench.errors import DataError


def chat(shape, *flags, **columns):
    """A chat of two questions and two answers, the first answer with some flags."""
    role, text, names = (
        ("role", "content", "user assistant") if shape == "messages" else ("from", "value", "human gpt")
    )
    asked, answered = names.split()
    turns = [(asked, "2+2?"), (answered, "WRONG"), (asked, "Again."), (answered, "RIGHT")]
    said = [{role: name, text: words} for name, words in turns]
    said[1] |= dict(flags)
    return {("messages" if shape == "messages" else "conversations"): said, **columns}


def trained(values):
    shape = DataFormat["messages" if "messages" in values else "sharegpt"]
    return [turn.text for turn in conversation(Row(values, "a.jsonl:1"), shape).turns if turn.trained]


@pytest.mark.parametrize("shape", ["messages", "sharegpt"])
@pytest.mark.parametrize("name", ["weight", "train", "loss"])
def test_an_answer_is_left_untrained_by_any_of_three_flags(shape, name):
    for flag in (False, 0, 0.0):
        assert trained(chat(shape, (name, flag))) == ["RIGHT"]
    for flag in (True, 1, 1.0, None):
        assert trained(chat(shape, (name, flag))) == ["WRONG", "RIGHT"]


@pytest.mark.parametrize("flag", ["false", 0.5, 2, -1, [], {"a": 1}])
def test_a_flag_that_is_neither_true_nor_false_is_refused(flag):
    if flag == []:
        assert trained(chat("messages", ("train", flag))) == ["WRONG", "RIGHT"]
        return
    with pytest.raises(DataError, match="a.jsonl:1: 'train' of a turn must be true or false"):
        trained(chat("messages", ("train", flag)))


def test_flags_that_contradict_each_other_are_refused():
    with pytest.raises(
        DataError, match="a.jsonl:1: the flags of a turn contradict each other, weight: 0, train: true"
    ):
        trained(chat("sharegpt", ("weight", 0), ("train", True)))


def account(tokenizer, *values):
    rows = [Row(value, f"a.jsonl:{number}") for number, value in enumerate(values, start=1)]
    return encode(rows, Encoding(tokenizer, DataConfig(), Task.causal_lm)).account


@pytest.mark.parametrize("shape", ["messages", "sharegpt"])
def test_parts_of_a_turn_that_nothing_reads_are_counted_also_where_they_are_false(byte_tokenizer, shape):
    flags = [("trainable", False), ("mask", 0), ("note", "x"), ("empty", ""), ("null", None)]
    assert account(byte_tokenizer, chat(shape, *flags)).unwritten == {"trainable": 1, "mask": 1, "note": 1}


def test_a_question_that_is_to_be_trained_is_counted_as_unread(byte_tokenizer):
    value = chat("messages")
    value["messages"][0]["train"] = True
    value["messages"][2]["train"] = False
    assert account(byte_tokenizer, value).unwritten == {"train": 1}


def systems(values):
    shape = DataFormat[
        "messages" if "messages" in values else "sharegpt" if "conversations" in values else "alpaca"
    ]
    found = conversation(Row(values, "a.jsonl:1"), shape)
    return [turn.text for turn in found.turns if turn.role == "system"], list(found.notes)


@pytest.mark.parametrize("shape", ["messages", "sharegpt"])
def test_a_system_column_and_a_system_turn_become_one(shape):
    role, text = ("role", "content") if shape == "messages" else ("from", "value")

    def row(column, *own):
        value = chat(shape, system=column)
        said = next(part for name, part in value.items() if name != "system")
        said[:0] = [{role: "system", text: words} for words in own]
        return value

    assert systems(row("A")) == (["A"], [])
    assert systems(row("A", "A\n")) == (["A\n"], [SYSTEM_TWICE])
    assert systems(row("A", "B")) == (["B"], [SYSTEM_CONFLICT])
    assert systems(row("A", "")) == (["A"], [])
    assert systems(row("", "B")) == (["B"], [])
    assert systems(row(None, "B", "B")) == (["B"], [SYSTEM_TWICE])
    assert systems(row(None, "B", "C")) == (["B", "C"], [])


def test_an_alpaca_row_has_the_system_text_of_its_column():
    assert systems({"instruction": "a", "output": "b", "system": "S"}) == (["S"], [])


def test_a_system_column_that_a_bare_prompt_does_not_take_is_counted(byte_tokenizer):
    value = {"prompt": "a", "completion": "b", "system": "S"}
    assert account(byte_tokenizer, value).noted == {SYSTEM_UNREAD: 1}


def test_an_answer_that_nothing_asked_for_is_counted(byte_tokenizer):
    value = chat("messages")
    del value["messages"][0]
    assert account(byte_tokenizer, value).noted == {BEGINS_WITH_ANSWER: 1}
