"""Thinking models: what is trained of a thought; rows and prompts are one text with either setting."""

import logging
from pathlib import Path

import pytest

from workbench.config.data import DataConfig, SourceConfig, Thoughts
from workbench.config.model import Task
from workbench.config.names import IGNORED
from workbench.data import notices
from workbench.data.chat.thoughts import split
from workbench.data.encode import Encoding, encode
from workbench.data.inference_prompts import prompts
from workbench.data.rows import Row
from workbench.errors import DataError

QWEN3 = (
    "{%- set last = namespace(query=-1) -%}"
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set last.query = loop.index0 -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- for m in messages -%}"
    "{%- set thought, text = m.reasoning_content or '', m.content -%}"
    "{%- if m.role == 'assistant' and not thought and '</think>' in text -%}"
    "{%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') -%}"
    "{%- set text = text.split('</think>')[-1].lstrip('\n') -%}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\n' -}}"
    "{%- if m.role == 'assistant' and loop.index0 > last.query and (loop.last or thought) -%}"
    "{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' -}}"
    "{%- endif -%}"
    "{{- text -}}"
    "{%- for call in m.tool_calls or [] -%}{{- '<call>' + call.function.name + '</call>' -}}{%- endfor -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\n\n</think>\n\n' -}}"
    "{%- endif -%}"
    "{%- endif -%}"
)
"""The logic of Qwen3's template: thoughts after the last question only, and always one in the last answer."""

CALL = {"type": "function", "function": {"name": "map", "arguments": {}}}


def asked(text):
    return {"role": "user", "content": text}


def said(text, **fields):
    return {"role": "assistant", "content": text, **fields}


PLAIN = [asked("Nile?"), said("Africa.")]
TAGGED = [asked("Nile?"), said("<think>\nA river.\n</think>\n\nAfrica.")]
TIGHT = [asked("Nile?"), said("<think>A river.</think>Africa.")]
FIELD = [asked("Nile?"), said("Africa.", reasoning_content="A river.")]
SECOND = [asked("Po?"), said("<think>\nAnother.\n</think>\n\nItaly.")]
STEPS = [
    asked("Nile?"),
    said("", reasoning_content="Look.", tool_calls=[CALL]),
    {"role": "tool", "content": "Cairo"},
    said("Africa.", reasoning_content="So."),
]
CHATS = {
    "plain": PLAIN,
    "tagged": TAGGED,
    "tight": TIGHT,
    "field": FIELD,
    "two": [*PLAIN, *PLAIN],
    "thoughts": [*TAGGED, *SECOND],
    "mixed": [*FIELD, asked("Po?"), said("Italy."), *SECOND],
    "steps": STEPS,
    "steps, then more": [*STEPS, *SECOND],
}
THINKING = [{}, {"enable_thinking": True}]
NOT_THINKING = {"enable_thinking": False}


@pytest.fixture
def tokenizer(byte_tokenizer, monkeypatch):
    notices.say_once.cache_clear()
    monkeypatch.setattr(byte_tokenizer, "chat_template", QWEN3)
    byte_tokenizer.eos_token = "<|im_end|>"
    yield byte_tokenizer
    byte_tokenizer.eos_token = "</s>"


def encoded(tokenizer, *chats, **keys):
    rows = [Row({"messages": chat}, f"a.jsonl:{number}") for number, chat in enumerate(chats, start=1)]
    return encode(rows, Encoding(tokenizer, DataConfig(**keys), Task.causal_lm))


def parts(tokenizer, example):
    """Text without loss and text with loss, in turn."""
    texts, before = [""], False
    for token, label in zip(example["input_ids"], example["labels"], strict=True):
        if (label != IGNORED) is not before:
            texts.append("")
            before = not before
        texts[-1] += "\0" + str(token)
    return [tokenizer.decode([int(token) for token in text.split("\0")[1:]]) for text in texts]


def answered(tokenizer, chat, arguments):
    """(Prompt, answer) of each assistant's turn, as transformers renders what the model reads and writes."""
    found = []
    for number, message in enumerate(chat):
        if message["role"] == "assistant":
            options = {"tokenize": False, **arguments}
            prompt = tokenizer.apply_chat_template(chat[:number], add_generation_prompt=True, **options)
            full = tokenizer.apply_chat_template(chat[: number + 1], **options)
            assert full.startswith(prompt)
            found.append((prompt, full.removeprefix(prompt).rstrip("\n")))
    return found


def without_thoughts(chat):
    bare = [{key: value for key, value in message.items() if key != "reasoning_content"} for message in chat]
    return [{**message, "content": message["content"].split("</think>")[-1].lstrip("\n")} for message in bare]


@pytest.mark.parametrize("arguments", THINKING)
@pytest.mark.parametrize("name", CHATS)
def test_each_answer_is_trained_once_in_the_text_in_which_the_model_writes_it(tokenizer, name, arguments):
    chat = CHATS[name]
    trained = {}
    for example in encoded(tokenizer, chat, template_arguments=arguments, max_length=4096).dataset:
        texts = parts(tokenizer, example)
        for index in range(1, len(texts), 2):
            trained["".join(texts[:index])] = texts[index]
    assert trained == dict(answered(tokenizer, chat, arguments))
    assert all(answer.endswith("<|im_end|>") for answer in trained.values())


@pytest.mark.parametrize("name", CHATS)
def test_without_thinking_the_empty_thought_belongs_to_the_prompt(tokenizer, name):
    keys = {"template_arguments": NOT_THINKING, "thoughts": Thoughts.strip, "max_length": 4096}
    trained = [parts(tokenizer, example) for example in encoded(tokenizer, CHATS[name], **keys).dataset]
    expected = answered(tokenizer, without_thoughts(CHATS[name]), NOT_THINKING)
    assert [tuple(texts) for texts in trained] == expected
    assert all(prompt.endswith("<think>\n\n</think>\n\n") for prompt, _ in trained)


def test_a_thought_in_a_row_without_thinking_is_refused_with_the_way_out(tokenizer):
    with pytest.raises(DataError, match=r"a\.jsonl:1: the prompt rendered .*data\.thoughts=strip"):
        encoded(tokenizer, TAGGED, template_arguments=NOT_THINKING)


@pytest.mark.parametrize("chat", [TAGGED, TIGHT, FIELD])
def test_a_masked_thought_is_read_and_not_trained(tokenizer, chat):
    (example,) = encoded(tokenizer, chat, thoughts=Thoughts.mask).dataset
    (prompt, answer) = answered(tokenizer, chat, {})[0]
    thought = "<think>\nA river.\n</think>\n\n"
    assert parts(tokenizer, example) == [prompt + thought, answer.removeprefix(thought)]
    assert parts(tokenizer, example)[1] == "Africa.<|im_end|>"


@pytest.mark.parametrize("template", ["chatml", "plain", "alpaca"])
@pytest.mark.parametrize("chat", [TAGGED, TIGHT])
def test_a_template_without_thoughts_keeps_them_in_the_text(tokenizer, template, chat):
    thought = chat[1]["content"].removesuffix("Africa.")
    for mode, answer in (("train", thought + "Africa."), ("mask", "Africa."), ("strip", "Africa.")):
        (example,) = encoded(tokenizer, chat, template=template, thoughts=Thoughts[mode]).dataset
        *_, before, trained = parts(tokenizer, example)
        assert trained == answer + "<|im_end|>"
        assert before.endswith(thought) is (mode == "mask")


def test_masked_thoughts_of_a_chat_with_steps_leave_its_answers(tokenizer):
    (example,) = encoded(tokenizer, STEPS, thoughts=Thoughts.mask, max_length=4096).dataset
    assert parts(tokenizer, example)[1::2] == ["<call>map</call><|im_end|>", "Africa.<|im_end|>"]


def test_an_empty_thought_of_the_template_is_masked_as_well(tokenizer):
    (example,) = encoded(tokenizer, PLAIN, thoughts=Thoughts.mask).dataset
    assert parts(tokenizer, example)[1] == "Africa.<|im_end|>"


MODES = [Thoughts.train, Thoughts.mask, Thoughts.strip]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CHATS)
def test_a_prompt_has_the_ids_of_its_training_row(tokenizer, name, mode):
    chat = CHATS[name]
    data = DataConfig(thoughts=mode, max_length=4096)
    *_, example = encoded(tokenizer, chat, thoughts=mode, max_length=4096).dataset
    (prompt,) = prompts([Row({"messages": chat[:-1]}, "a.jsonl:1")], tokenizer, data, Task.causal_lm)
    read = without_thoughts(chat[:-1]) if mode is Thoughts.strip else chat[:-1]
    assert prompt.text == tokenizer.apply_chat_template(read, tokenize=False, add_generation_prompt=True)
    assert example["input_ids"][: len(prompt.input_ids)] == prompt.input_ids


SPELT = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}THOUGHT{{ m.content }}<|im_end|>\n"
SPELT += "{% endfor %}"
SPELT += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def test_a_thought_in_marks_of_its_own_is_masked_up_to_its_end(tokenizer, monkeypatch):
    thought = "{% if m.reasoning_content %}[analysis]{{ m.reasoning_content }}[final]{% endif %}"
    monkeypatch.setattr(tokenizer, "chat_template", SPELT.replace("THOUGHT", thought))
    (example,) = encoded(tokenizer, FIELD, thoughts=Thoughts.mask).dataset
    assert parts(tokenizer, example)[1] == "[final]Africa.<|im_end|>"


def test_a_thought_in_the_text_is_passed_in_the_field_of_a_template_that_reads_no_tags(
    tokenizer, monkeypatch
):
    thought = "{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    monkeypatch.setattr(tokenizer, "chat_template", SPELT.replace("THOUGHT", thought))
    tagged, tight, field = encoded(tokenizer, TAGGED, TIGHT, FIELD).dataset
    assert tagged["input_ids"] == tight["input_ids"] == field["input_ids"]
    empty = [asked("Nile?"), said("<think>\n\n</think>\n\nAfrica.")]
    first, second = encoded(tokenizer, empty, PLAIN).dataset
    assert first["input_ids"] == second["input_ids"]


def test_answers_that_one_text_has_share_an_example(tokenizer):
    assert len(encoded(tokenizer, STEPS, max_length=4096).dataset) == 1
    assert len(encoded(tokenizer, CHATS["steps, then more"], max_length=4096).dataset) == 2


def test_an_answer_that_speaks_of_the_tag_has_no_thought(tokenizer):
    chat = [asked("Tag?"), said("Write </think> at its end.")]
    for mode in MODES:
        (example,) = encoded(tokenizer, chat, template="chatml", thoughts=mode).dataset
        assert parts(tokenizer, example)[1] == "Write </think> at its end.<|im_end|>"


def test_a_remark_on_a_row_counts_the_row_once_however_many_examples_it_becomes(tokenizer, caplog):
    caplog.set_level(logging.INFO, logger="workbench")
    tokenizer.eos_token = "</s>"
    encoded(tokenizer, CHATS["thoughts"], PLAIN)
    assert "(so in 2 of 2 checked rows)" in caplog.text


def test_what_becomes_of_thoughts_is_counted(tokenizer):
    noted = encoded(tokenizer, TAGGED, PLAIN, thoughts=Thoughts.strip).account.noted
    assert noted["have a thought, which data.thoughts=strip removes"] == 1
    assert noted["have an answer without a thought, to which data.thoughts=strip does nothing"] == 1


def test_an_answer_that_is_nothing_but_a_thought_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"a\.jsonl:1: the answer in turn 2 is nothing but a thought"):
        encoded(tokenizer, [asked("Nile?"), said("<think>Hm.</think>\n")], thoughts=Thoughts.strip)


@pytest.mark.parametrize("template", ["auto", "chatml"])
def test_an_argument_that_the_template_does_not_have_is_refused(tokenizer, template):
    known = "enable_thinking" if template == "auto" else "none"
    with pytest.raises(
        DataError, match=rf"data\.template_arguments\.thinking: the chat template has no .*it takes {known}\)"
    ):
        encoded(tokenizer, PLAIN, template=template, template_arguments={"thinking": False})


def test_sources_have_arguments_and_thoughts_of_their_own(tokenizer):
    sources = {
        "think": SourceConfig(path="a.jsonl"),
        "quick": SourceConfig(path="b.jsonl", template_arguments=NOT_THINKING, thoughts=Thoughts.strip),
    }
    rows = [Row({"messages": TAGGED}, f"{name}:1", source=name) for name in sources]
    found = encode(rows, Encoding(tokenizer, DataConfig(sources=sources), Task.causal_lm))
    trained = [parts(tokenizer, example)[1] for example in found.dataset]
    assert trained == ["<think>\nA river.\n</think>\n\nAfrica.<|im_end|>", "Africa.<|im_end|>"]


@pytest.mark.parametrize("columns", [{"text": "Rain."}, {"text": "Rain.", "label": "wet"}])
@pytest.mark.parametrize(
    ("key", "value"), [("thoughts", Thoughts.mask), ("template_arguments", NOT_THINKING)]
)
def test_rows_without_answers_refuse_both_keys(tokenizer, columns, key, value):
    task = Task.sequence_classification if "label" in columns else Task.causal_lm
    with pytest.raises(DataError, match=rf"data\.{key}: .*no answers"):
        encode([Row(columns, "a.jsonl:1")], Encoding(tokenizer, DataConfig(**{key: value}), task))


@pytest.mark.peer
@pytest.mark.parametrize("arguments", [*THINKING, NOT_THINKING])
def test_the_template_of_these_tests_renders_as_qwen3s_does(tokenizer, arguments):
    folder = Path(pytest.importorskip("trl").__file__).parent / "chat_templates"
    published = (folder / "qwen3.jinja").read_text(encoding="utf-8")
    for name, chat in CHATS.items():
        if "steps" not in name:  # calls are written shorter here
            for number in range(1, len(chat) + 1):
                options = {"tokenize": False, "add_generation_prompt": number % 2 == 1, **arguments}
                ours = tokenizer.apply_chat_template(chat[:number], **options)
                assert ours == tokenizer.apply_chat_template(
                    chat[:number], chat_template=published, **options
                )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" <think>\na\n</think>\n\n b", ("a", " b")),
        ("a\n</think>\nb", ("a", "b")),
        ("\n</think>\nb\n</think>\nc", ("", "b\n</think>\nc")),
        ("a </think> b", (None, "a </think> b")),
        ("a <think>\n</think>\nb", (None, "a <think>\n</think>\nb")),
        ("<think>a", (None, "<think>a")),
        ("\n" * 10**6 + "a </think> b", (None, "\n" * 10**6 + "a </think> b")),  # in one pass over the text
    ],
)
def test_an_answer_is_split_at_its_first_closing_tag(text, expected):
    assert split(text) == expected
