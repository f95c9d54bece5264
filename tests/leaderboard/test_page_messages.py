"""Every sentence that a board makes has a Chinese translation with the same values."""

import ast
import copy
import json
import re
from pathlib import Path

from board_maker import Size, make_board

import workbench
from workbench.config.names import UNTRAINED
from workbench.leaderboard.page import NoTexts, bundle, html
from workbench.leaderboard.page.plain import page_value
from workbench.shown import Message, listed, message, message_of

PACKAGE = Path(workbench.__file__).parent
RECORDED = (
    UNTRAINED,
    "1 where the answer is right, else 0",
    "1 where the label is right, else 0",
    "log-likelihood of the text, in nats",
    "log-likelihood of the target, in nats",
    "the item's log-likelihood, in nats",
)
"""Sentences that results.json holds finished."""


def calls():
    """Every call of `message` in the package, with its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "message":
                yield path, node


def placeholders(text):
    return sorted(re.findall(r"\{(\w+)\}", text))


def test_every_template_is_written_at_its_call_and_has_a_translation_with_its_values():
    source = (bundle.HERE / "js" / "chinese_messages.js").read_text(encoding="utf-8")
    pairs = re.findall(r'^ +"((?:[^"\\]|\\.)*)":\s+"((?:[^"\\]|\\.)*)",$', source, re.MULTILINE)
    translations = dict(pairs)
    assert len(translations) == len(pairs)
    templates = set(RECORDED)
    for path, call in calls():
        [template] = call.args
        assert isinstance(template, ast.Constant), f"{path}:{call.lineno}: the template is not written here"
        assert placeholders(template.value) == sorted(keyword.arg for keyword in call.keywords), path
        templates.add(template.value)
    assert set(translations) == templates and len(templates) > 40
    for english, chinese in translations.items():
        assert placeholders(english) == placeholders(chinese), english
        assert re.search("[\u4e00-\u9fff、：]", chinese), english


def test_recorded_sentences_are_those_of_the_package():
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert [sentence for sentence in RECORDED if sources.count(f'"{sentence}"') < 1] == []


def test_a_message_is_its_english_sentence_and_keeps_its_parts():
    inner = message("{count} of {total} items", count=2680, total=11582)
    outer = message("{model} on {column}: {problem}", model="a{b}", column="c", problem=inner)
    assert outer == "a{b} on c: 2,680 of 11,582 items" and json.loads(json.dumps(outer)) == outer
    assert outer.values["problem"].values == {"count": "2,680", "total": "11,582"}
    assert copy.deepcopy(outer).template == "{model} on {column}: {problem}"
    assert listed(["a", "b", "c"]) == "a, b, c" and isinstance(listed(["a", "b"]), Message)
    assert message_of(ValueError(inner)) is inner and message_of(ValueError("text")) == "text"


def test_the_page_carries_template_and_values_without_control_characters():
    text = message("{model} on {column}: {problem}", model="\x1b[31m", column="c", problem="p")
    assert page_value([text]) == [
        [
            "␛[31m on c: p",
            "{model} on {column}: {problem}",
            {"model": "␛[31m", "column": "c", "problem": "p"},
        ]
    ]


def test_a_page_without_a_script_shows_finished_sentences():
    page = html(make_board(Size(models=3, columns=2, items=20)), NoTexts())
    assert "<h1" in page and "{model}" not in page.partition("<noscript>")[2].partition("</noscript>")[0]
