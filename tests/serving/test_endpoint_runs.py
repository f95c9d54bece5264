"""Benchmarks at an endpoint: the scores of the weights, marked as served; a stopped scoring goes on."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import DEVNULL

import pytest
from run_recipe import run_recipe
from wrong_servers import shifted, without_echo

from workbench.errors import ConfigError, EndpointError
from workbench.run_dir import RunDir, read_json
from workbench.shipped import PACKAGE

TOY = f"model.path={PACKAGE / 'toy' / 'base'}"
BENCHMARKS = (
    "benchmark=[toy_choice_zh,toy_exact_en]",
    "benchmarks.toy_choice_zh.limit=12",
    "benchmarks.toy_exact_en.limit=6",
)
NUM_PROBES, NUM_CHOICES = 12, 4
"""Requests of a probe, of which each text has three, and choices of an item."""


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Runs recipe=evaluate without its leaderboard in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def evaluate(name: str, *overrides: str) -> RunDir:
        return run_recipe("evaluate", "steps=[evaluate]", TOY, *BENCHMARKS, f"run_dir={name}", *overrides)

    return evaluate


def predictions(run_dir: RunDir, benchmark: str) -> list[dict]:
    lines = run_dir.predictions("base", benchmark).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_scores_at_an_endpoint_are_those_of_the_weights_and_say_that_they_are_served(evaluate, served):
    own = evaluate("own")
    remote = evaluate("remote", f"model.endpoint=http://127.0.0.1:{served.port}")
    for benchmark in ("toy_choice_zh", "toy_exact_en"):
        for here, there in zip(predictions(own, benchmark), predictions(remote, benchmark), strict=True):
            values = zip(here.pop("loglikelihoods"), there.pop("loglikelihoods"), strict=True)
            assert all(abs(a - b) < 1e-4 for a, b in values)
            assert {k: v for k, v in here.items() if k != "scores"} == {
                k: v for k, v in there.items() if k != "scores"
            }
    results = read_json(remote.results_json)
    assert {score["note"] for score in results["scores"]} == {"served"}
    assert results["models"]["base"]["dtype"] == "served"
    expected = {
        (score["benchmark"], score["metric"]): score["value"]
        for score in read_json(own.results_json)["scores"]
    }
    for score in results["scores"]:
        assert score["value"] == pytest.approx(expected[score["benchmark"], score["metric"]], abs=1e-4)


@pytest.mark.parametrize("wrong", [{"spoil": shifted}, {"change": without_echo}])
def test_a_wrong_server_gets_no_scores_by_likelihood(evaluate, spoiled, wrong):
    with pytest.raises(EndpointError, match="can't be scored by likelihood"):
        evaluate("wrong", f"model.endpoint={spoiled(**wrong).url}")
    assert not Path("wrong/results.json").exists()


def test_a_scoring_that_failed_goes_on_without_asking_twice(evaluate, spoiled):
    server = spoiled()
    options = (f"model.endpoint={server.url}", "endpoint.retries=0", "endpoint.concurrency=1")
    whole = evaluate("whole", *options)
    total = len(server.seen)
    server.seen.clear()
    server.fails = lambda body: 400 if len(server.seen) == 30 else None
    with pytest.raises(EndpointError, match="400"):
        evaluate("stopped", *options)
    server.fails = None
    resumed = evaluate("stopped", *options)
    prompts = [json.dumps(body, sort_keys=True) for body in server.seen]
    assert total <= len(prompts) <= total + 20  # the probe once more, and the item that failed
    for benchmark in ("toy_choice_zh", "toy_exact_en"):
        assert predictions(whole, benchmark) == predictions(resumed, benchmark)


def test_a_killed_scoring_goes_on_without_asking_an_answered_item_again(evaluate, spoiled, tmp_path):
    server = spoiled()
    options = (f"model.endpoint={server.url}", "endpoint.retries=0", "endpoint.concurrency=1")
    whole = evaluate("whole", *options)
    server.seen.clear()
    command = [sys.executable, "-m", "workbench", "recipe=evaluate", "steps=[evaluate]", TOY, *BENCHMARKS]
    child = subprocess.Popen([*command, "run_dir=killed", *options], stdout=DEVNULL, stderr=DEVNULL)
    while len(server.seen) < 40:
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    before = Counter(json.dumps(body, sort_keys=True) for body in server.seen[NUM_PROBES:])
    num_before = len(server.seen)
    cached = [file.read_text("utf-8").splitlines() for file in Path("killed/cache").glob("*.jsonl")]
    assert sum(map(len, cached)) >= 6
    resumed = evaluate("killed", *options)
    after = Counter(json.dumps(body, sort_keys=True) for body in server.seen[num_before + NUM_PROBES :])
    assert sum((before & after).values()) <= NUM_CHOICES  # the item that was asked when it was killed
    for benchmark in ("toy_choice_zh", "toy_exact_en"):
        assert predictions(whole, benchmark) == predictions(resumed, benchmark)


def test_the_key_is_in_no_file_of_the_run(evaluate, served, monkeypatch):
    monkeypatch.setenv("WORKBENCH_ENDPOINT_KEY", "a-secret-endpoint-key")
    run_dir = evaluate("keyed", f"model.endpoint=http://127.0.0.1:{served.port}")
    files = [file for file in run_dir.path.rglob("*") if file.is_file()]
    assert len(files) > 3 and not any(b"a-secret-endpoint-key" in file.read_bytes() for file in files)


def test_steps_and_keys_that_need_weights_are_refused(evaluate, served):
    url = f"model.endpoint=http://127.0.0.1:{served.port}"
    for overrides, reason in (
        (["steps=[predict]"], "the step predict needs weights"),
        (["adapter.path=some"], "adapter.path: not with model.endpoint"),
        (["evaluate.invariant=true"], "evaluate.invariant: not with model.endpoint"),
    ):
        with pytest.raises(ConfigError, match=reason):
            evaluate("refused", url, *overrides)
