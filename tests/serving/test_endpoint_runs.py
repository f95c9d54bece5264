"""Benchmarks at an endpoint: the scores of the weights, marked as served; a stopped scoring goes on."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from subprocess import DEVNULL

import pytest
from json_server import JsonServer, ask
from run_recipe import run_recipe
from wrong_servers import shifted, without_echo

from workbench.errors import ConfigError, EndpointError
from workbench.evaluation.endpoint.kept_answers import NUM_TEXTS
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
    remote = evaluate("remote", f"model.endpoint={served.url}")
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
    assert results["base_model"] == "base"  # its name at the endpoint, and not the tokenizer's folder
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
    assert total <= len(prompts) <= total + 20  # the probe, the item that failed, and a kept one
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
    compared, after = compared_and_others(server.seen[num_before + NUM_PROBES :], NUM_CHOICES)
    assert compared <= before  # a kept item, to see that it is the same model
    assert sum((before & after).values()) <= NUM_CHOICES  # the item that was asked when it was killed
    for benchmark in ("toy_choice_zh", "toy_exact_en"):
        assert predictions(whole, benchmark) == predictions(resumed, benchmark)


def compared_and_others(bodies, num_compared: int) -> tuple[Counter, Counter]:
    """Return the requests of a resumed scoring that compare kept answers, and those that follow."""
    requests = [json.dumps(body, sort_keys=True) for body in bodies]
    return Counter(requests[:num_compared]), Counter(requests[num_compared:])


AT_ONCE = 8
MANY = ("benchmarks.toy_choice_zh.limit=40", "benchmarks.toy_exact_en.limit=60")
"""Items by which no answered one is by chance among the last AT_ONCE."""


@pytest.mark.parametrize(("num_seen", "is_text"), [(NUM_PROBES + 90, False), (NUM_PROBES + 200, True)])
def test_a_killed_scoring_of_eight_requests_at_once_asks_only_those_in_flight_again(
    evaluate, spoiled, num_seen, is_text
):
    slow = lambda path, body: time.sleep(0.02) or body  # noqa: E731  so that all eight are in flight
    server = spoiled(change=slow)
    options = (*MANY, f"model.endpoint={server.url}", "endpoint.retries=0", f"endpoint.concurrency={AT_ONCE}")
    command = [sys.executable, "-m", "workbench", "recipe=evaluate", "steps=[evaluate]", TOY, *BENCHMARKS]
    child = subprocess.Popen([*command, "run_dir=killed", *options], stdout=DEVNULL, stderr=DEVNULL)
    while len(server.seen) < num_seen:
        assert child.poll() is None
        time.sleep(0.001)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    time.sleep(0.5)  # for requests that the server has not read yet
    num_before = len(server.seen)
    before = Counter(json.dumps(body, sort_keys=True) for body in server.seen[NUM_PROBES:])
    assert max(before.values()) == 1 and (server.seen[num_before - 1]["max_tokens"] > 1) == is_text
    resumed = evaluate("killed", *options)
    # Where only texts are missing, log-likelihoods aren't probed.
    num_probes, num_compared = (0, NUM_TEXTS) if is_text else (NUM_PROBES, NUM_CHOICES)
    compared, after = compared_and_others(server.seen[num_before + num_probes :], num_compared)
    assert compared <= before
    again = before & after
    # A question of choices is asked again as a whole: eight in flight are of at most eight questions.
    assert sum(again.values()) <= (AT_ONCE if is_text else AT_ONCE * NUM_CHOICES)
    if not is_text:
        assert sum(again.values()) < 90 - AT_ONCE * NUM_CHOICES
    whole = evaluate("whole", *options)
    for benchmark in ("toy_choice_zh", "toy_exact_en"):
        assert predictions(whole, benchmark) == predictions(resumed, benchmark)


def test_ctrl_c_ends_a_scoring_whose_endpoint_does_not_answer(tmp_path):
    silence = threading.Event()

    def reply(path: str, body):
        return (200, {"data": [{"id": "base"}]}) if body is None else (silence.wait(300), {})

    server = JsonServer(reply)
    options = ("benchmark=[toy_exact_en]", "run_dir=silent", f"model.endpoint={server.url}")
    command = [sys.executable, "-m", "workbench", "recipe=evaluate", "steps=[evaluate]", TOY, *options]
    try:
        child = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=DEVNULL,
            stderr=DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's jobs may ignore it
        )
        while not server.seen:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        assert child.wait(120) != 0  # endpoint.timeout_seconds is 600
    finally:
        child.kill()
        silence.set()
        server.stop()


@pytest.fixture
def evaluate_texts(tmp_path, monkeypatch):
    """Runs recipe=evaluate on six items of generated answers in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    texts = ("benchmark=[toy_exact_en]", "benchmarks.toy_exact_en.limit=6", "endpoint.retries=0")

    def evaluate(name: str, *overrides: str) -> RunDir:
        return run_recipe("evaluate", "steps=[evaluate]", TOY, *texts, f"run_dir={name}", *overrides)

    return evaluate


def test_sampled_answers_have_seeds_of_their_own_and_are_counted_by_item(evaluate_texts, spoiled):
    server = spoiled()
    options = (f"model.endpoint={server.url}", "evaluate.temperature=0.8", "evaluate.top_p=0.9")
    three = evaluate_texts("drawn", *options, "evaluate.samples=3")
    sent = [body for body in server.seen if body["temperature"]]
    assert len(sent) == 18 and len({body["seed"] for body in sent}) == 18
    assert all((body["temperature"], body["top_p"], body.get("n", 1)) == (0.8, 0.9, 1) for body in sent)
    items = predictions(three, "toy_exact_en")
    assert all(len(item["samples"]) == 3 for item in items)
    assert any(len({sample["generation"] for sample in item["samples"]}) > 1 for item in items)
    (mean,) = [score for score in read_json(three.results_json)["scores"] if score["metric"] == "exact_match"]
    assert (mean["num_items"], mean["num_samples"], mean["note"]) == (6, 3, "served")
    values = [item["scores"]["exact_match"] for item in items]
    assert mean["value"] == pytest.approx(sum(values) / 6)
    assert all(
        v == pytest.approx(sum(s["scores"]["exact_match"] for s in i["samples"]) / 3)
        for v, i in zip(values, items, strict=True)
    )
    server.seen.clear()
    five = evaluate_texts("drawn", *options, "evaluate.samples=5")
    assert sum(bool(body["temperature"]) for body in server.seen) == 12  # those that are missing
    kept = [item["samples"][:3] for item in predictions(five, "toy_exact_en")]
    assert [[s["generation"] for s in item] for item in kept] == [
        [s["generation"] for s in item["samples"]] for item in items
    ]
    again = evaluate_texts("again", *options, "evaluate.samples=3")
    assert predictions(again, "toy_exact_en") == items


def test_another_model_at_the_same_address_is_scored_anew(evaluate_texts, served):
    names = ["first"]

    def renamed(path: str, body):
        status, answer = ask(served.port, path, body and {**body, "model": "base"})
        if body is None:
            answer["data"][0]["id"] = names[0]
        return status, answer

    server = JsonServer(renamed)
    try:
        for name, count in (("first", 6), ("first", 0), ("second", 6)):
            names[0], num_before = name, len(server.seen)
            evaluate_texts("asked", f"model.endpoint={server.url}")
            assert len(server.seen) - num_before == count
    finally:
        server.stop()


def test_the_key_is_in_no_file_of_the_run(evaluate, served, monkeypatch):
    monkeypatch.setenv("WORKBENCH_ENDPOINT_KEY", "a-secret-endpoint-key")
    run_dir = evaluate("keyed", f"model.endpoint={served.url}")
    files = [file for file in run_dir.path.rglob("*") if file.is_file()]
    assert len(files) > 3 and not any(b"a-secret-endpoint-key" in file.read_bytes() for file in files)


def test_steps_and_keys_that_need_weights_are_refused(evaluate, served):
    url = f"model.endpoint={served.url}"
    for overrides, reason in (
        (["steps=[predict]"], "the step predict needs weights"),
        (["adapter.path=some"], "adapter.path: not with model.endpoint"),
        (["evaluate.invariant=true"], "evaluate.invariant: not with model.endpoint"),
        (["quantization=nf4"], "quantization.method: not with model.endpoint"),
        (["model.dtype=float32"], "model.dtype: not with model.endpoint"),
        (["model.device=cpu"], "model.device: not with model.endpoint"),
        (["model.attention=eager"], "model.attention: not with model.endpoint"),
        (["model.fused=false"], "model.fused: not with model.endpoint"),
        (["model.compile=true"], "model.compile: not with model.endpoint"),
        (["model.tf32=true"], "model.tf32: not with model.endpoint"),
        (["evaluate.shared_prefix=false"], "evaluate.shared_prefix: not with model.endpoint"),
        (["evaluate.batch_tokens=64"], "evaluate.batch_tokens: not with model.endpoint"),
        (["steps=[compare]", "compare.until=decided"], "the step compare needs weights"),
    ):
        with pytest.raises(ConfigError, match=reason):
            evaluate("refused", url, *overrides)
