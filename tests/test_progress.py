"""Progress without a terminal: the pace and the time left that its lines say."""

import re
import time

import pytest
from rich.console import Console

from workbench import progress
from workbench.progress import Progress


@pytest.fixture
def lines(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    caplog.set_level("INFO", logger="workbench")
    return lambda: caplog.messages


def started_ago(seconds: float, total: int) -> Progress:
    bar = Progress("merge", total, unit="tensors")
    bar.start -= seconds
    return bar


def test_the_first_units_have_no_time_left_for_their_pace_includes_the_start(lines):
    started_ago(20, total=100).advance(1)
    assert lines() == ["merge: 1 of 100 tensors, 0.05 tensors/s"]


def test_the_time_left_is_that_of_the_pace_since_the_first_units(lines):
    bar = started_ago(500, total=101)
    bar.advance(1)
    bar.first = (time.monotonic() - 20, 1)
    bar.advance(10)
    assert lines()[-1].endswith(", 3:00 left")


def test_an_hour_is_written_as_one(lines):
    bar = started_ago(0, total=3602)
    bar.advance(1)
    bar.first = (time.monotonic() - 2, 1)
    bar.advance(1)
    assert lines()[-1].endswith(", 2:00:00 left")


def test_a_pace_below_one_a_second_has_two_digits(lines):
    started_ago(300, total=100).advance(4)
    assert "0.013 tensors/s" in lines()[0]


def test_lines_have_the_title_of_the_units_that_are_done(lines):
    bar = started_ago(10, total=2)
    for model in ("base", "sum"):
        bar.rename(f"proof: logits of the {model}")
        bar.advance(1)
    titles = [line.rpartition(": ")[0] for line in lines()]
    assert titles == ["proof: logits of the base", "proof: logits of the sum"]


def test_a_line_above_the_bar_keeps_its_brackets(monkeypatch, capsys):
    monkeypatch.setattr(Console, "is_terminal", True)
    with Progress("merge", 2) as bar:
        bar.say("runs/a [b] [/c] :smile: 12")
    assert "runs/a [b] [/c] :smile: 12" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
