"""Faults planted in templates and in the building of rows: each is found, with its row and token."""

import logging
import re
from pathlib import Path

import pytest

from workbench.config.data import CheckMask, DataConfig, Truncation
from workbench.config.model import Task
from workbench.config.names import IGNORED
from workbench.data import encode as encode_module
from workbench.data import notices
from workbench.data.encode import Encoding, encode
from workbench.data.mask_check import check_masks
from workbench.data.rows import Row
from workbench.data.tokens.segments import Tokens
from workbench.errors import DataError

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.thought %}<think>{{ m.thought }}</think>{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat(*texts, roles=("user", "assistant"), thoughts=()):
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    for turn, thought in zip([t for t in turns if t["role"] == "assistant"], thoughts, strict=False):
        turn["thought"] = thought
    return {"messages": turns}


SOUND = chat("Nile?", "Africa.")
LONGER = chat("Nile?", "Africa.", "Po?", "Italy.")
SYSTEM = {"messages": [{"role": "system", "content": "Be brief."}, *LONGER["messages"]]}


def encoded(tokenizer, *values, **keys):
    rows = [Row(value, f"a.jsonl:{number}") for number, value in enumerate(values, start=1)]
    return encode(rows, Encoding(tokenizer, DataConfig(**keys), Task.causal_lm))


def complaint(tokenizer, *values, **keys):
    with pytest.raises(DataError) as caught:
        encoded(tokenizer, *values, **keys)
    assert "\n" not in str(caught.value)
    said = str(caught.value)
    cannot = "not a prefix of the training row" in said or "changes an earlier answer" in said
    assert ("train anyway with data.check_mask=warn" in said) is not cannot
    return str(caught.value)


@pytest.fixture(autouse=True)
def nothing_said_before():
    notices.say_once.cache_clear()


@pytest.fixture
def tokenizer(byte_tokenizer, monkeypatch):
    """Its template is sound, and its end of turn is its end of sequence."""
    monkeypatch.setattr(byte_tokenizer, "chat_template", TEMPLATE)
    byte_tokenizer.eos_token = "<|im_end|>"
    yield byte_tokenizer
    byte_tokenizer.eos_token = "</s>"


@pytest.fixture
def template(tokenizer, monkeypatch):
    """The tokenizer with another template."""

    def setter(text):
        monkeypatch.setattr(tokenizer, "chat_template", text)
        return tokenizer

    return setter


@pytest.fixture
def plant(monkeypatch):
    """Changes the second row as it is built."""
    build = encode_module.encode_segments

    def planter(fault):
        def faulty(examples, encoder, prefix):
            built = build(examples, encoder, prefix)
            return [*built[:1], fault(built[1]), *built[2:]]

        monkeypatch.setattr(encode_module, "encode_segments", faulty)

    return planter


def first_trained(row):
    return next(i for i, label in enumerate(row.labels) if label != IGNORED)


def place(tokenizer, text, token):
    """The last position of a token in a text, and what is said of it."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    number = tokenizer.convert_tokens_to_ids(token) if token != "\n" else tokenizer("\n")["input_ids"][0]
    position = len(ids) - 1 - ids[::-1].index(number)
    return f"at token {position}, {token!r} (id {number})"


@pytest.mark.parametrize("value", [SOUND, LONGER, SYSTEM, chat("a", "b", thoughts=["c"])])
@pytest.mark.parametrize("name", ["auto", "alpaca", "alpaca-zh", "chatml", "open-llama", "plain"])
@pytest.mark.parametrize("split", [False, True])
def test_sound_rows_raise_no_alarm(tokenizer, caplog, value, name, split):
    found = encoded(tokenizer, SOUND, value, template=name, split_special_tokens=split)
    assert not found.account.noted
    assert not caplog.records


HEADER = "<|im_start|>user\nNile?<|im_end|>\n<|im_start|>assistant\n"


def test_a_mask_that_begins_three_tokens_early_is_found(tokenizer, plant):
    def early(row):
        start = first_trained(row)
        return Tokens(
            row.input_ids, [*row.labels[: start - 3], *row.input_ids[start - 3 : start], *row.labels[start:]]
        )

    plant(early)
    said = complaint(tokenizer, LONGER, SOUND)
    assert said.startswith("a.jsonl:2: a token of the prompt carries loss, ")
    assert f"at token {len(tokenizer(HEADER, add_special_tokens=False)['input_ids']) - 3}, " in said


def test_a_mask_that_begins_late_is_found(tokenizer, plant):
    def late(row):
        start = first_trained(row)
        return Tokens(row.input_ids, [*row.labels[:start], IGNORED, *row.labels[start + 1 :]])

    plant(late)
    assert complaint(tokenizer, LONGER, SOUND).startswith(
        "a.jsonl:2: a token of the answer carries no loss, at"
    )


def test_a_header_without_its_newline_in_the_built_row_is_found(tokenizer, plant):
    def without(row):
        start = first_trained(row)
        return Tokens(
            [*row.input_ids[: start - 1], *row.input_ids[start:]],
            [*row.labels[: start - 1], *row.labels[start:]],
        )

    plant(without)
    said = complaint(tokenizer, LONGER, SOUND)
    assert said.startswith("a.jsonl:2: the training row has another token than its rendered text, at token")
    position = len(tokenizer(HEADER, add_special_tokens=False)["input_ids"]) - 1
    assert f"at token {position}, 'A" in said


def test_a_header_without_its_newline_in_the_prompt_for_generation_is_found(template):
    tokenizer = template(TEMPLATE.replace("<|im_start|>assistant\n{% endif", "<|im_start|>assistant{% endif"))
    said = complaint(tokenizer, SOUND)
    assert said.startswith("a.jsonl:1: the prompt rendered for generation lacks the header of the answer")
    assert place(tokenizer, HEADER, "\n") in said


def test_a_header_without_its_newline_in_the_row_alone_is_found(template):
    tokenizer = template(
        TEMPLATE.replace("{{ m.role }}\n", "{{ m.role + ('\n' if m.role == 'user' else '') }}")
    )
    said = complaint(tokenizer, SOUND)
    assert said.startswith("a.jsonl:1: the prompt rendered for generation is not a prefix of the training")
    assert place(tokenizer, HEADER, "\n") in said


def test_a_lost_end_token_is_found(tokenizer, plant):
    plant(lambda row: Tokens(row.input_ids[:-1], row.labels[:-1]))
    said = complaint(tokenizer, LONGER, SOUND)
    assert said.startswith("a.jsonl:2: the training row ends before its rendered text, ")
    assert place(tokenizer, HEADER + "Africa.<|im_end|>", "<|im_end|>") in said


def test_an_end_token_that_the_template_loses_is_found_in_earlier_turns(template):
    tokenizer = template(
        TEMPLATE.replace("<|im_end|>\n", "{{ ('<|im_end|>' if m.role == 'user' else '') + '\n' }}", 1)
    )
    said = complaint(tokenizer, SOUND, LONGER)
    assert said.startswith("a.jsonl:2: the chat template ends an earlier answer without a control token")
    assert place(tokenizer, HEADER + "Africa.\n", "\n") in said


def test_an_end_token_that_the_template_loses_is_said_where_one_is_put_behind_the_last_answer(
    template, caplog
):
    caplog.set_level(logging.INFO, logger="workbench")
    lost = TEMPLATE.replace("<|im_end|>\n", "{{ ('<|im_end|>' if m.role == 'user' else '') + '\n' }}", 1)
    encoded(template(lost), SOUND)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("a.jsonl:1: the chat template writes no end of turn; the end of sequence is added")
    assert place(template(lost), HEADER + "Africa.\n<|im_end|>", "<|im_end|>") in said


def test_an_end_token_that_is_masked_is_found(tokenizer, plant):
    plant(lambda row: Tokens(row.input_ids, [*row.labels[:-1], IGNORED]))
    said = complaint(tokenizer, LONGER, SOUND)
    assert said.startswith("a.jsonl:2: the token that ends the answer carries no loss, ")
    assert place(tokenizer, HEADER + "Africa.<|im_end|>", "<|im_end|>") in said


def test_a_missing_prompt_for_generation_is_found(template):
    tokenizer = template(TEMPLATE.partition("{% if add_generation_prompt")[0])
    said = complaint(tokenizer, SOUND)
    assert said.startswith("a.jsonl:1: the prompt rendered for generation lacks the header of the answer")
    assert place(tokenizer, HEADER, "<|im_start|>") in said


def test_half_a_prompt_for_generation_is_found(template):
    tokenizer = template(TEMPLATE.replace("<|im_start|>assistant\n{% endif", "<|im_start|>{% endif"))
    assert "which would be trained, at token" in complaint(tokenizer, SOUND)


def test_a_beginning_that_the_template_doubles_is_found(template):
    said = complaint(template("{{ bos_token }}{{ bos_token }}" + TEMPLATE), SOUND)
    assert said.startswith("a.jsonl:1: the begin-of-sequence token occurs twice, at token 1, '<s>' (id 1)")


def test_a_beginning_that_is_doubled_in_building_is_found(template, plant):
    plant(lambda row: Tokens([1, *row.input_ids], [IGNORED, *row.labels]))
    said = complaint(template("{{ bos_token }}" + TEMPLATE), LONGER, SOUND)
    assert said.startswith("a.jsonl:2: the begin-of-sequence token occurs twice, at token 1, '<s>' (id 1)")


def test_an_end_that_is_doubled_is_found(tokenizer, plant):
    end = tokenizer.eos_token_id
    plant(lambda row: Tokens([*row.input_ids, end], [*row.labels, end]))
    assert complaint(tokenizer, LONGER, SOUND).startswith("a.jsonl:2: the end token occurs twice, at token")


def test_a_template_that_trims_answers_is_found(template):
    tokenizer = template(TEMPLATE.replace("{{ m.content }}", "{{ m.content | trim }}"))
    encoded(tokenizer, SOUND, LONGER)
    said = complaint(tokenizer, SOUND, chat("Nile?", "Africa.", "Indent.", "  return 1"))
    assert said.startswith("a.jsonl:2: the chat template changes the text of the answer, at token")
    text = HEADER + "Africa.<|im_end|>\n" + HEADER.replace("Nile?", "Indent.")
    position = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert f"at token {position}, 'r" in said
    assert "white space" in said
    assert "at token" in complaint(tokenizer, chat("Nile?", "Africa.\n"))


def test_of_a_template_that_drops_thoughts_of_earlier_turns_each_answer_is_an_example(template):
    tokenizer = template(TEMPLATE.replace("{% if m.thought %}", "{% if m.thought and loop.last %}"))
    rows = [SOUND, chat("Nile?", "Africa.", "Po?", "Italy.", thoughts=["Hm", "So"])]
    found = encoded(tokenizer, *rows)
    texts = [tokenizer.decode(row["input_ids"]) for row in found.dataset]
    first = HEADER + "<think>Hm</think>Africa.<|im_end|>"
    second = f"{HEADER}Africa.<|im_end|>\n{HEADER.replace('Nile', 'Po')}<think>So</think>Italy.<|im_end|>"
    assert texts == [HEADER + "Africa.<|im_end|>", first, second]
    assert [count for note, count in found.account.noted.items() if "an example per answer" in note] == [1]


MERGING = (
    "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'user' and WHICH and messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_system_text_that_moves_into_the_last_question_is_where_the_model_reads_it(template):
    last = "(loop.last or loop.index == loop.length - 1)"
    tokenizer = template(MERGING.replace("WHICH", last))
    texts = [tokenizer.decode(row["input_ids"]) for row in encoded(tokenizer, SOUND, SYSTEM).dataset]
    first, second = (HEADER.replace("Nile", f"Be brief.{word}") for word in ("Nile", "Po"))
    answered = HEADER + "Africa.<|im_end|>"
    assert texts == [answered, f"{first}Africa.<|im_end|>", f"{answered}\n{second}Italy.<|im_end|>"]


def test_a_system_text_that_becomes_part_of_the_first_question_is_said(template, caplog):
    caplog.set_level(logging.INFO, logger="workbench")
    encoded(template(MERGING.replace("WHICH", "loop.index == 2")), SOUND, SYSTEM)
    said = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("a.jsonl:2: the chat template has no system turn") for line in said)


@pytest.mark.parametrize("role", ["system", "user"])
def test_a_turn_that_the_template_leaves_out_is_found(template, role):
    left_out = TEMPLATE.replace(
        "<|im_start|>{{ m.role }}", "{% if m.role != 'ROLE' %}<|im_start|>{{ m.role }}", 1
    )
    left_out = left_out.replace("<|im_end|>\n", "<|im_end|>\n{% endif %}", 1).replace("ROLE", role)
    said = complaint(template(left_out), SYSTEM)
    assert said.startswith("a.jsonl:1: the chat template leaves out a turn, at token ")
    found = encoded(template(left_out), SYSTEM, check_mask=CheckMask.warn)
    assert found.account.noted.total() == 1


def test_an_end_of_sequence_other_than_the_templates_end_is_said(tokenizer, caplog):
    caplog.set_level(logging.INFO, logger="workbench")
    tokenizer.eos_token = "</s>"
    encoded(tokenizer, SOUND)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("a.jsonl:1: answers end with another token than the end of sequence")
    assert place(tokenizer, HEADER + "Africa.<|im_end|>", "<|im_end|>") in said


def test_an_end_that_is_no_token_of_the_tokenizer_is_said(llama_tokenizer, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="workbench")
    monkeypatch.setattr(llama_tokenizer, "chat_template", TEMPLATE.replace("im_", "turn_"))
    encoded(llama_tokenizer, SOUND)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(
        "a.jsonl:1: the end of turn is not a token of this tokenizer and is trained as plain"
    )


def test_warn_trains_all_the_same_and_counts(tokenizer, plant, caplog):
    plant(lambda row: Tokens(row.input_ids, [*row.labels[:-1], IGNORED]))
    found = encoded(tokenizer, LONGER, SOUND, check_mask=CheckMask.warn)
    assert len(found.dataset) == 2
    assert found.account.noted == {"of 2 checked: the token that ends the answer carries no loss": 1}
    assert "a.jsonl:2: the token that ends the answer carries no loss" in caplog.text


@pytest.mark.parametrize("policy", ["cut-end", "cut-start", "drop"])
@pytest.mark.parametrize("limit", [22, 28, 33, 41, 50])
@pytest.mark.parametrize("name", ["auto", "chatml", "alpaca"])
def test_rows_that_are_cut_raise_no_alarm(llama_tokenizer, policy, limit, name):
    values = [LONGER, SYSTEM, chat("a", "b " * 30), chat("a " * 30, "b"), SOUND] * (name != "auto")
    values = values or [{"prompt": "a " * n, "completion": "b " * (40 - n)} for n in range(1, 40, 6)]
    keys = {"truncation": Truncation[policy], "template": name, "max_length": limit}
    try:
        found = encoded(llama_tokenizer, *values, **keys)
    except DataError as error:
        assert "is left to train on" in str(error)
    else:
        assert found.account.num_cut + found.account.dropped.total()


def test_a_cut_row_with_a_fault_is_found(tokenizer, plant):
    plant(lambda row: Tokens(row.input_ids, [row.input_ids[0], *row.labels[1:]]))
    keys = {"max_length": 20, "truncation": Truncation["cut-end"]}
    assert "a.jsonl:2: a token of the prompt carries loss, at token 0" in complaint(
        tokenizer, SOUND, LONGER, **keys
    )


def test_of_many_rows_each_shape_and_a_sample_are_looked_at(tokenizer, monkeypatch):
    monkeypatch.setattr(check_masks, "ALL_ROWS", 5)
    monkeypatch.setattr(check_masks, "SAMPLE", 3)
    values = [chat(f"{i}?", "x") for i in range(40)]
    values[33] = SYSTEM
    values[37] = chat("a", " x")
    rows = [Row(value, f"a.jsonl:{number}") for number, value in enumerate(values)]
    conversations = [encode_module.conversation(row, encode_module.DataFormat["messages"]) for row in rows]
    numbers = check_masks.chosen(conversations, seed=0)
    assert {0, 33, 37} <= set(numbers)
    assert len(numbers) <= 6
    assert numbers == check_masks.chosen(conversations, seed=0) != check_masks.chosen(conversations, seed=1)


UNSOUND = {
    **dict.fromkeys(
        [
            f"deepseek{kind} {row}"
            for kind in ("_r1_distill", "v3")
            for row in ("one", "two", "system", "thought", "thoughts")
        ],
        "the prompt for generation opens a thought (<think>), which answers without one in their text lack",
    ),
    **dict.fromkeys(
        [
            f"nemotron_3_{kind} {row}"
            for kind in ("5_lightning", "nano", "super", "ultra")
            for row in ("one", "two", "system")
        ],
        "the prompt for generation opens a thought (<think> and a newline), the row has <think></think>",
    ),
    "gemma system": "the template refuses a system turn",
    **dict.fromkeys(
        ["qwen3_5_nothink thought", "qwen3_5_nothink thoughts"],
        "the prompt for generation closes the thought that the row has",
    ),
}
"""Templates and rows that can't be trained as they are, by hand, and why."""

THOUGHTS = chat("Nile?", "Africa.", "Po?", "Italy.")
for answer in THOUGHTS["messages"][1::2]:
    answer["reasoning_content"] = "Easy."
ROWS = {
    "one": SOUND,
    "two": LONGER,
    "system": SYSTEM,
    "thought": {"messages": THOUGHTS["messages"][:2]},
    "thoughts": THOUGHTS,
}
MARKS = (
    r"<\|[^|<>\s{}']{1,40}\|>|<｜[^｜<>]{1,40}｜>|\[gMASK\]"
    r"|<(?:start_of_turn|end_of_turn|turn\||\|turn|end_of_utterance)>"
)


def templates_of_trl():
    trl = pytest.importorskip("trl")
    return sorted((Path(trl.__file__).parent / "chat_templates").glob("*_training.jinja"))


@pytest.mark.peer
def test_the_training_templates_of_trl_raise_an_alarm_only_where_they_are_unsound(byte_tokenizer):
    files = templates_of_trl()
    assert len(files) == 31
    alarms = {}
    for file in files:
        text = file.read_text()
        tokenizer = type(byte_tokenizer)(
            tokenizer_object=byte_tokenizer.backend_tokenizer.__class__.from_str(
                byte_tokenizer.backend_tokenizer.to_str()
            ),
            **{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        )
        tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(re.findall(MARKS, text)))})
        tokenizer.chat_template = text
        for name, value in ROWS.items():
            try:
                encoded(tokenizer, value, max_length=9999)
            except DataError as error:
                alarms[f"{file.stem.removesuffix('_training')} {name}"] = str(error)
    assert alarms.keys() == UNSOUND.keys()
    for name, said in alarms.items():
        assert "a.jsonl:1: the " in said and ("at token" in said or name == "gemma system")
