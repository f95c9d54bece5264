"""Each method of peft through the whole job: the table of conf/README.md, made again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.config.adapter import AdapterMethod
from workbench.models.adapters.methods import BASES, EVERY, REFUSED

METHODS = [method for method in AdapterMethod if method is not AdapterMethod.none]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came out of each method on each base."""
    command = [sys.executable, str(Path(__file__).with_name("peft_methods.py"))]
    done = subprocess.run(
        [*command, str(tmp_path_factory.mktemp("methods"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def is_proven(outcome):
    """Whether a training was merged and proven, has the adapter's scores, and resumed where it was killed."""
    scores = outcome["scores"]
    same = scores.keys() == {"base", "adapter", "merged"} and scores["adapter"] == scores["merged"]
    resumed = outcome.get("resumed", True) and outcome.get("statuses", [0, 9, 0]) == [0, 9, 0]
    return (
        outcome["status"] == 0 and outcome["proven"] and abs(outcome["kept"] - 1) < 1e-3 and same and resumed
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_is_trained_resumed_scored_merged_and_proven_or_refused_before_any_work(method, outcomes):
    found, bases = outcomes[method.name], BASES.get(method, EVERY)
    works = {"causal": True, "classifier": True, "int8": bases.int8, "nf4": bases.four_bit}
    for case, does_work in works.items():
        outcome = found[case]
        if does_work and method not in REFUSED:
            assert is_proven(outcome), (case, outcome)
        else:
            assert outcome["refusal"].startswith("adapter.method: "), (case, outcome)
            assert "\n" not in outcome["refusal"] and not outcome["has_trained"]
