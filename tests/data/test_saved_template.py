"""The chat template that is saved writes what was trained, through transformers alone."""

import pytest

from workbench.config.data import DataConfig, Template
from workbench.config.model import Task
from workbench.data.chat.named_templates import TEMPLATES, saved_template
from workbench.data.chat.saved_template import end_ids, templates_of
from workbench.data.encode import Encoding, encode
from workbench.data.inference_prompts import prompts
from workbench.data.row_counts import Account
from workbench.data.rows import Row

CALL = {"id": "call1", "type": "function", "function": {"name": "add", "arguments": '{"a": "三"}'}}
CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "3+4?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": "It is 7."},
        {"role": "user", "content": "谢谢"},
        {"role": "assistant", "content": "好"},
    ],
    "tools": [{"type": "function", "function": {"name": "add", "description": "加"}}],
}
ASKED = {"messages": [{"role": "user", "content": "3+4?"}]}


@pytest.fixture(params=["byte_tokenizer", "llama_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def encoded(tokenizer, value, template):
    return encode([Row(value, "a:1")], Encoding(tokenizer, DataConfig(template=template), Task.causal_lm))


@pytest.mark.parametrize("template", [*(template.name for template in TEMPLATES), "auto"])
def test_a_saved_template_writes_the_text_and_the_prompt_that_were_trained(tokenizer, template, monkeypatch):
    found = encoded(tokenizer, CHAT, template)
    prompt = prompts([Row(ASKED, "a:1")], tokenizer, DataConfig(template=template), Task.causal_lm)[0]
    (form,) = found.account.forms
    monkeypatch.setattr(tokenizer, "chat_template", form.template)
    text = tokenizer.apply_chat_template(CHAT["messages"], tools=CHAT["tools"], tokenize=False)
    ids = tokenizer(text.rstrip("\n"), add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == tokenizer.decode(found.dataset[0]["input_ids"])
    asked = tokenizer.apply_chat_template(ASKED["messages"], add_generation_prompt=True)["input_ids"]
    assert asked == prompt.input_ids
    again = encoded(tokenizer, CHAT, "auto")
    assert again.dataset[0]["input_ids"] == found.dataset[0]["input_ids"]
    assert again.account.unwritten == found.account.unwritten


def test_bare_prompts_keep_the_tokenizers_template_unless_one_is_named(tokenizer):
    value = {"prompt": "a", "completion": "b"}
    (form,) = encoded(tokenizer, value, "auto").account.forms
    assert (form.template, form.ends) == (None, ("</s>",))
    (form,) = encoded(tokenizer, value, "chatml").account.forms
    assert form.template == saved_template(tokenizer, TEMPLATES[Template["chatml"]])
    assert form.ends == ("<|im_end|>", "</s>")


def test_a_template_of_its_own_for_tools_writes_the_rows_that_have_some(byte_tokenizer, monkeypatch):
    plain = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    with_tools = "{{ tools | tojson }}" + plain
    monkeypatch.setattr(byte_tokenizer, "chat_template", {"default": plain, "tool_use": with_tools})
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for value in ({"messages": turns}, {"messages": turns, "tools": CHAT["tools"]}):
        found = encoded(byte_tokenizer, value, "auto")
        text = byte_tokenizer.apply_chat_template(turns, tools=value.get("tools"), tokenize=False)
        assert byte_tokenizer.decode(found.dataset[0]["input_ids"]) == text
        assert not found.account.unwritten


def test_the_ways_in_which_blocks_and_sources_were_written_add_up(tokenizer):
    total = Account()
    for template in ("chatml", "alpaca", "chatml"):
        total.add(encoded(tokenizer, {**ASKED, "messages": CHAT["messages"][-2:]}, template).account)
    assert list(total.forms.values()) == [2, 1]
    assert len(templates_of(total.forms)) == 2
    vocabulary = tokenizer.get_vocab()
    assert end_ids(tokenizer, total.forms) == [vocabulary["<|im_end|>"], vocabulary["</s>"]]
    assert total.as_json()["ends"] == ["<|im_end|>", "</s>"]
