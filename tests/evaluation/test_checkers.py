"""Answers are checked in processes that are ended where an answer takes too long, and started anew."""

from pathlib import Path

import pytest

from workbench.errors import DeviceError
from workbench.evaluation.checkers.checker import Checker
from workbench.evaluation.checkers.line_worker import LineWorker

SCRIPT = """
import json, os, sys
print("ready", flush=True)
for line in sys.stdin:
    question = json.loads(line)
    while question == "endless":
        pass
    if question == "crash":
        os._exit(1)
    print(json.dumps([question, os.getpid(), os.environ.get("MARK")]), flush=True)
"""


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "answer.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def test_a_process_answers_until_a_question_takes_too_long_or_ends_it(script):
    worker = LineWorker(script, {"MARK": "set"}, 0.5)
    try:
        first, process, mark = worker.ask("词\n")
        assert (first, mark) == ("词\n", "set")
        assert worker.ask(2) == [2, process, "set"]
        for question in ("endless", "crash"):
            before = worker.ask(3)[1]
            assert worker.ask(question) is None
            assert worker.ask(3)[1] != before
    finally:
        worker.close()


def test_a_script_that_does_not_start_is_one_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import package_that_is_absent", encoding="utf-8")
    with pytest.raises(DeviceError, match="broken: the process that checks answers doesn't start"):
        LineWorker(path, {}, 1).ask(1)


def test_questions_are_asked_once_each_and_in_several_processes(script):
    checker = Checker("mine", "compare_formulas.py")
    checker.script = checker._worker.script = script
    checker.ask_ahead(["a", "b", "b", "c"])
    results = {question: checker.ask(question) for question in "abc"}
    assert [answer for answer, _, _ in results.values()] == ["a", "b", "c"]
    assert checker._worker._process is None  # nothing was asked again
    checker.ask_ahead(["c", "d"])
    assert checker.ask("c") == results["c"]
    assert set(checker._results) == {'"c"', '"d"'}
