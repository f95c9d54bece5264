"""Chat templates of `data.template`, and their form in the tokenizer of a trained model."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from transformers import PreTrainedTokenizerBase

from workbench.config.data import Template
from workbench.data.tokens.segments import special_frame

TEMPLATES: Mapping[Template, str] = MappingProxyType(
    {
        # The texts alone, with an end of sequence after each answer.
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
        # Source: github.com/openai/openai-python, chatml.md (v0). The tokenizer's end of sequence follows
        # <|im_end|>, so that generation also stops if <|im_end|> is not a token of the tokenizer.
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
        # The alpaca template in Chinese, in our own words.
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
"""Start of a saved template: writes tools and tool calls as JSON, which the named templates don't support.

In training the renderer writes the same JSON.
"""


def saved_template(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """Return the Jinja text that is saved with a trained model, from that of a named template.

    Both render the same text, but the saved template also writes the tokenizer's begin tokens, as
    transformers expects; in training the renderer adds these ids. It also writes tools, see TOOLS_AS_TEXT.
    """
    begin = "".join(tokenizer.convert_ids_to_tokens(special_frame(tokenizer)[0]))
    write_begin = "{{- " + json.dumps(begin, ensure_ascii=False) + " -}}" if begin else ""
    return TOOLS_AS_TEXT + write_begin + template


def shipped_template(tokenizer: PreTrainedTokenizerBase, own: str | None) -> str | None:
    """Return the Jinja text of the named template whose `saved_template` is `own`; None if there is none.

    `own` is a tokenizer's chat template, or None.
    """
    saved = {saved_template(tokenizer, template): template for template in TEMPLATES.values()}
    return saved.get(own or "")
