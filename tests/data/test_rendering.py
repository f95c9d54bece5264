"""One renderer: the bytes of transformers on sound templates, one line on those that would never end."""

import threading
from pathlib import Path

import numpy as np
import pytest
from awkward_templates import AWKWARD
from hostile_templates import HOSTILE

from workbench.config.data import Template
from workbench.data.chat.named_templates import TEMPLATES
from workbench.data.templating import render_budget
from workbench.data.templating.render import RenderingError, chat_template, chat_text

CALL = {"name": "f", "arguments": {"a": 1, "b": "é <b>"}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "description": 'adds "a" & <b>',
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer", "description": "甲"}, "b": {"enum": ["x", "y"]}},
                "required": ["a"],
            },
        },
    }
]
CHATS = [
    [{"role": "user", "content": "你好 <b>&"}, {"role": "assistant", "content": "hi"}],
    [
        {"role": "system", "content": " S\n"},
        {"role": "user", "content": " a\nb\t", "name": None},
        {"role": "assistant", "content": "<think>\nx\n</think>\n\nanswer", "reasoning_content": None},
        {"role": "user", "content": "😀"},
    ],
    [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "function": CALL}]},
        {"role": "tool", "name": "f", "tool_call_id": "call00001", "content": '{"r": 2}'},
        {"role": "assistant", "content": "done", "thinking": "hm"},
    ],
    [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "image"}]}],
]


def expected(tokenizer, chat, template, **options) -> str | None:
    """What transformers makes of a chat; None where it refuses."""
    try:
        return str(tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, **options))
    except Exception:
        return None


def rendered(tokenizer, chat, template, **options) -> str | None:
    try:
        return chat_text(tokenizer, chat, template, **options)
    except RenderingError:
        return None


def check_equal(tokenizer, template: str) -> int:
    """Compare over all chats; how many of them the template renders."""
    count = 0
    for chat in CHATS:
        for tools in (None, TOOLS):
            for prompt in (False, True):
                options = {"tools": tools, "add_generation_prompt": prompt}
                wanted = expected(tokenizer, chat, template, **options)
                assert rendered(tokenizer, chat, template, **options) == wanted
                count += wanted is not None
    return count


@pytest.mark.parametrize("name", TEMPLATES)
def test_our_own_templates_render_as_transformers_renders_them(byte_tokenizer, name):
    assert check_equal(byte_tokenizer, TEMPLATES[name]) > 0


@pytest.mark.parametrize("name", AWKWARD)
def test_an_awkward_template_renders_as_transformers_renders_it(byte_tokenizer, name):
    assert check_equal(byte_tokenizer, AWKWARD[name]) > 0


@pytest.mark.peer
def test_the_templates_that_trl_ships_render_as_transformers_renders_them(byte_tokenizer):
    trl = pytest.importorskip("trl")
    templates = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    assert len(templates) > 30
    assert all(check_equal(byte_tokenizer, template.read_text()) for template in templates)


def test_a_last_message_that_goes_on_ends_as_in_transformers(byte_tokenizer):
    for template in (
        TEMPLATES[Template["chatml"]],
        "{% for m in messages %}{{ m.content|trim }};{% endfor %}",
    ):
        for text in ("hi", "hi \n", "  "):
            chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": text}]
            wanted = expected(byte_tokenizer, chat, template, continue_final_message=True)
            assert rendered(byte_tokenizer, chat, template, continue_final_message=True) == wanted


@pytest.mark.parametrize("content", [[], [{"type": "image"}]])
def test_a_last_message_without_text_cannot_go_on(byte_tokenizer, content):
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": content}]
    with pytest.raises(RenderingError, match="the last message has no text, so it can't be continued"):
        chat_text(byte_tokenizer, chat, TEMPLATES[Template["chatml"]], continue_final_message=True)


def test_values_that_are_not_of_json_are_shown_as_transformers_shows_them(byte_tokenizer):
    values = [np.float32(0.5), np.str_("x"), np.bool_(False), np.arange(2), (1, b"x"), {1: {2}}, 1e300]
    chat = [{"role": "user", "content": "a", "extra": values}]
    template = "{{ messages[0].extra }}"
    assert chat_text(byte_tokenizer, chat, template) == expected(byte_tokenizer, chat, template)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_would_never_end_is_one_line(monkeypatch, name):
    monkeypatch.setattr(render_budget, "MAX_SECONDS", 0.1)
    with pytest.raises(RenderingError) as caught:
        chat_template.__wrapped__(HOSTILE[name]).render({"messages": []})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_refusal_names_the_line_of_the_template(byte_tokenizer):
    with pytest.raises(RenderingError, match=r"makes a value of more than .* \(line 3 of the template\)"):
        chat_text(byte_tokenizer, CHATS[0], "a\n\n{{ 'a' * 10**9 }}")
    with pytest.raises(RenderingError, match=r"no, thanks \(line 2 of the template\)"):
        chat_text(byte_tokenizer, CHATS[0], "\n{{ raise_exception('no,\n thanks') }}")
    with pytest.raises(RenderingError, match=r"expected token .* \(line 2 of the template\)"):
        chat_text(byte_tokenizer, CHATS[0], "\n{{ a b }}")


def test_renderings_that_are_each_short_are_refused_where_they_are_slow_together(monkeypatch, byte_tokenizer):
    monkeypatch.setattr("workbench.data.templating.render.MAX_SECONDS", 0.2)
    template = chat_template.__wrapped__("{% for a in range(9999) %}{{ [a] * 9 }}{% endfor %}")
    with pytest.raises(RenderingError, match="takes .* seconds for .* texts"):
        for _ in range(1000):
            template.render({})


def test_a_conversation_of_a_million_characters_is_within_the_bounds(byte_tokenizer):
    chat = [{"role": role, "content": "一" * 500} for role in ("user", "assistant")] * 1000
    text = chat_text(byte_tokenizer, chat, TEMPLATES[Template["chatml"]])
    assert text == expected(byte_tokenizer, chat, TEMPLATES[Template["chatml"]])


def test_threads_are_counted_each_for_itself(byte_tokenizer):
    template = "{% for a in range(60000) %}{% endfor %}{{ messages[0].role }}"
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(chat_text(byte_tokenizer, CHATS[0], template)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["user"] * 4
