"""Text of others reaches no terminal with control characters or secrets in it."""

import json
import logging
from pathlib import Path

import pytest

from workbench import shown
from workbench.cli.messages import CleanFormatter, one_line
from workbench.errors import DataError
from workbench.run_dir import write_atomic, write_json
from workbench.shown import clean, masked, remember_secret

SECRET = 's3cr3t-"ü<x\\'


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(shown, "_secrets", set())


@pytest.mark.parametrize(
    "text",
    [
        *(
            "\x1b[31mred",
            "\x1b]0;title\x07",
            "bell\x07",
            "back\x08\x08",
            "over\rwritten",
            "\x9b31m",
            "\x7f",
            "\x00",
        ),
        *(
            "\u202eexe.txt",
            "\u2066a\u2069",
            "line\u2028separator",
            "half \ud800 of a character",
            "\x0c",
            "\x85",
        ),
    ],
)
def test_no_control_character_is_left(text):
    assert clean(text).isprintable() and clean(clean(text)) == clean(text)


@pytest.mark.parametrize("text", ["评论 été 😀", "a\tb\nc", "مرحبا", "e\u0301", "\u200d"])
def test_sound_text_stays_as_it_is(text):
    assert clean(text) == text


def test_an_error_and_a_log_line_are_clean():
    error = DataError("rows.csv: no column 'a\x1b[2Jb' (has: \u202ec, \rd)")
    assert one_line(error).isprintable() and "\u241b[2J" in one_line(error)
    record = logging.LogRecord("workbench", logging.INFO, "", 1, "file %s", ("a\x1b[31m.csv",), None)
    assert CleanFormatter("%(message)s").format(record).isprintable()


def test_secrets_are_masked_in_text_json_and_html_and_in_every_file_that_is_written(tmp_path):
    remember_secret(SECRET)
    escaped = "s3cr3t-&quot;ü&lt;x\\"
    for written in (SECRET, json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False), escaped):
        assert "cr3t" not in masked(f"a {written} b") and shown.MASK in masked(written)
    write_json(tmp_path / "a.json", {"key": f"with {SECRET} in it"})
    write_atomic(tmp_path / "a.md", f"with {SECRET} in it")
    assert json.loads((tmp_path / "a.json").read_text()) == {"key": "with *** in it"}
    assert (tmp_path / "a.md").read_text() == "with *** in it"


def test_each_single_character_is_cleaned_as_by_the_table_of_replacements():
    for code in [*range(0x3000), *range(0xD800, 0xE000), 0x1F600]:
        text = f"a{chr(code)}b"
        assert clean(text) == text.encode("utf-8", "replace").decode("utf-8").translate(shown.CONTROL)


def test_every_console_prints_texts_as_they_are():
    files = [path for path in Path(shown.__file__).parent.rglob("*.py") if " Console(" in path.read_text()]
    assert [path.name for path in files] == ["wrapping.py"]
