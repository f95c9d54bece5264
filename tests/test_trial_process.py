"""A child process ends by its processor time, whatever the clock says."""

import sys

from workbench.patterns import trial_process
from workbench.patterns.trial_process import run_trial

PYTHON = (sys.executable, "-I", "-S", "-c")


def test_a_program_that_ends_gives_its_output_and_its_success():
    assert run_trial([*PYTHON, "print(input())"], "词\n", 10) == ("词\n", True)
    assert run_trial([*PYTHON, "print(1); raise SystemExit(3)"], "", 10) == ("1\n", False)


def test_a_program_that_computes_for_too_long_is_ended_with_its_output_so_far():
    endless = "print(1, flush=True)\nwhile True: pass"
    assert run_trial([*PYTHON, endless], "", 0.5) == ("1\n", False)


def test_a_program_that_waits_for_the_processor_is_not_ended(monkeypatch):
    monkeypatch.setattr(trial_process, "processor_seconds", lambda pid: 0.0)
    assert run_trial([*PYTHON, "import time; time.sleep(0.7); print(2)"], "", 0.2) == ("2\n", True)


def test_a_program_that_never_goes_on_is_ended(monkeypatch):
    monkeypatch.setattr(trial_process, "MOST_WAITED", 2)
    assert run_trial([*PYTHON, "import time; time.sleep(60)"], "", 0.1) == ("", False)
