"""`data.template` as a file: rendered, checked and saved as the tokenizer's own template would be."""

import json
from pathlib import Path

import pytest

from workbench import toy
from workbench.config import ModelConfig
from workbench.config.data import DataConfig
from workbench.config.history import hashed
from workbench.config.model import Task
from workbench.data.encode import Encoding, encode
from workbench.data.inference_prompts import prompts
from workbench.data.rows import load_rows
from workbench.errors import ConfigError, DataError
from workbench.models.loading import load_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def tokenizer():
    return load_tokenizer(ModelConfig(path=str(Path(toy.__file__).parent / "base")))


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hello"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "mine.jinja").write_text(TEMPLATE)
    return DataConfig(path="rows.jsonl", template="mine.jinja", max_length=64)


def test_rows_are_written_by_the_template_of_a_file_and_the_answer_alone_is_trained(data, tokenizer):
    encoded = encode(load_rows(data, 0), Encoding(tokenizer, data, Task.causal_lm))
    row = encoded.dataset[0]
    assert tokenizer.decode(row["input_ids"]) == "<s><user>你好<assistant>Hello</s>"
    assert tokenizer.decode([label for label in row["labels"] if label >= 0]) == "Hello</s>"


def test_the_template_of_a_file_is_saved_as_it_is_written(data, tokenizer):
    encoded = encode(load_rows(data, 0), Encoding(tokenizer, data, Task.causal_lm))
    assert [form.template for form in encoded.account.forms] == [TEMPLATE]


def test_a_trained_model_is_asked_by_the_template_that_it_was_saved_with(data, tokenizer, tmp_path):
    rows = load_rows(data, 0)
    assert prompts(rows, tokenizer, data, Task.causal_lm)[0].text == "<s><user>你好<assistant>"
    tokenizer.chat_template = TEMPLATE
    (tmp_path / "mine.jinja").write_text("changed since")
    assert prompts(rows, tokenizer, data, Task.causal_lm)[0].text == "<s><user>你好<assistant>"
    (tmp_path / "mine.jinja").unlink()
    assert prompts(rows, tokenizer, data, Task.causal_lm)[0].text == "<s><user>你好<assistant>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{% for m in messages %}", "'mine.jinja': "),
        (b"\xff\xfe", "'mine.jinja' is not UTF-8 text"),
        (b"{{ 1 }}" * 100_000, "'mine.jinja': is a template of more than"),
        (b"{{ messages.__class__.__mro__ }}", "template refuses the turns"),
        (b"{% for i in range(10**9) %}{{ i }}{% endfor %}", "the chat template"),
    ],
)
def test_a_file_that_is_no_template_or_would_do_more_than_write_text_is_refused(
    data, tokenizer, tmp_path, text, said
):
    (tmp_path / "mine.jinja").write_bytes(text)
    with pytest.raises(DataError, match=said):
        encode(load_rows(data, 0), Encoding(tokenizer, data, Task.causal_lm))


def test_a_template_file_that_there_is_not_is_named(data, tokenizer, tmp_path):
    (tmp_path / "mine.jinja").unlink()
    with pytest.raises(DataError, match=r"data\.template: 'mine\.jinja' can't be read"):
        encode(load_rows(data, 0), Encoding(tokenizer, data, Task.causal_lm))


def test_a_mistyped_template_is_answered_with_the_name_that_is_like_it():
    with pytest.raises(ConfigError, match=r"unknown template 'chatlm' \(did you mean chatml\?"):
        DataConfig(template="chatlm")


def test_a_named_template_counts_in_fingerprints_as_in_earlier_versions():
    assert str(hashed(DataConfig(template="chatml"), "data")["template"]) == "Template.chatml"
