"""The chat templates of `data.template`, and how a trained model is saved with one of them."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from transformers import PreTrainedTokenizerBase

from workbench.config.data import Template
from workbench.data.tokens.segments import special_frame

TEMPLATES: Mapping[Template, str] = MappingProxyType(
    {
        # Nothing but the texts themselves; an end after each answer.
        Template["plain"]: (
            "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
            "{% endfor %}"
        ),
        # Source: github.com/s-JoL/Open-Llama, chat_server.py: the model answers as "system:".
        Template["open-llama"]: (
            "{% for m in messages %}"
            "{% if m.role == 'assistant' %}{{ 'system:' + m.content + eos_token }}"
            "{% elif m.role == 'user' %}{{ 'user:' + m.content + '\n' }}"
            "{% elif m.role == 'tool' %}{{ 'tool:' + m.content + '\n' }}"
            "{% else %}{{ m.content + '\n' }}{% endif %}"
            "{% endfor %}{% if add_generation_prompt %}{{ 'system:' }}{% endif %}"
        ),
        # Source: github.com/openai/openai-python, chatml.md (v0). The tokenizer's own end stands behind
        # <|im_end|>, so that generation stops also where the tokenizer has no such token.
        Template["chatml"]: (
            "{% for m in messages %}"
            "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}"
            "{% if m.role == 'assistant' and eos_token != '<|im_end|>' %}{{ eos_token }}{% endif %}{{ '\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
        ),
        # Source: github.com/tatsu-lab/stanford_alpaca, train.py (PROMPT_DICT).
        Template["alpaca"]: (
            "{% for m in messages %}"
            "{% if m.role == 'assistant' %}{{ m.content + eos_token }}"
            "{% elif m.role == 'user' %}"
            "{% if loop.first %}{{ 'Below is an instruction that describes a task' }}"
            "{{ ', paired with an input that provides further context' if m.input else '' }}"
            "{{ '. Write a response that appropriately completes the request.' }}{% endif %}"
            "{{ '\n\n### Instruction:\n' + (m.instruction or m.content) }}"
            "{{ '\n\n### Input:\n' + m.input if m.input else '' }}"
            "{{ '\n\n### Response:' }}"
            "{% else %}{{ ('' if loop.first else '\n\n') + m.content }}{% endif %}"
            "{% endfor %}"
        ),
        # The same in Chinese, in words of our own.
        Template["alpaca-zh"]: (
            "{% for m in messages %}"
            "{% if m.role == 'assistant' %}{{ m.content + eos_token }}"
            "{% elif m.role == 'user' %}"
            "{% if loop.first %}{{ '下面是一条描述任务的指令' }}"
            "{{ '，并附有提供更多信息的输入' if m.input else '' }}"
            "{{ '。请写出恰当完成该任务的回答。' }}{% endif %}"
            "{{ '\n\n### 指令：\n' + (m.instruction or m.content) }}"
            "{{ '\n\n### 输入：\n' + m.input if m.input else '' }}"
            "{{ '\n\n### 回答：' }}"
            "{% else %}{{ ('' if loop.first else '\n\n') + m.content }}{% endif %}"
            "{% endfor %}"
        ),
    }
)

TOOLS_AS_TEXT = (
    "{%- set all = namespace(messages=[]) -%}"
    "{%- if tools -%}{%- set all.messages = [{'role': 'system', 'content': tools | tojson}] -%}{%- endif -%}"
    "{%- for m in messages -%}"
    "{%- set calls = m.tool_calls | tojson if m.tool_calls else '' -%}"
    "{%- set all.messages = all.messages + [dict(m, content=(m.content or '') + calls)] -%}"
    "{%- endfor -%}"
    "{%- set messages = all.messages -%}"
)
"""Writes tools and their calls as the renderer does for the templates above, which know neither."""


def saved_template(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """One of the templates as the tokenizer of a trained model needs it: it writes what was trained.

    With transformers a chat template writes the beginning of the sequence; the renderer puts it there itself.
    """
    begin = "".join(tokenizer.convert_ids_to_tokens(special_frame(tokenizer)[0]))
    written = "{{- " + json.dumps(begin, ensure_ascii=False) + " -}}" if begin else ""
    return TOOLS_AS_TEXT + written + template


def shipped_template(tokenizer: PreTrainedTokenizerBase, own: str | None) -> str | None:
    """The template above that a tokenizer's own one was saved from; None: it is another one."""
    saved = {saved_template(tokenizer, template): template for template in TEMPLATES.values()}
    return saved.get(own or "")
