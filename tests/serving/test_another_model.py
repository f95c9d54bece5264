"""A scoring that was stopped goes on at its endpoint only if the same model still answers there."""

import json
import logging
from pathlib import Path

import pytest
from run_recipe import run_recipe

from workbench.config import EndpointConfig, EvaluateConfig
from workbench.errors import DataError, EndpointError
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.run_dir import RunDir
from workbench.shipped import PACKAGE

TOY = f"model.path={PACKAGE / 'toy' / 'base'}"
CHOICES, TEXTS = "toy_choice_zh", "toy_exact_en"


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Runs recipe=evaluate without its leaderboard on a benchmark of 12 items, in the folder `asked`."""
    monkeypatch.chdir(tmp_path)

    def evaluate(url: str, benchmark: str, *overrides: str) -> RunDir:
        items = (f"benchmark=[{benchmark}]", f"benchmarks.{benchmark}.limit=12")
        at = (f"model.endpoint={url}", "endpoint.retries=0", "endpoint.concurrency=1", *overrides)
        return run_recipe("evaluate", "steps=[evaluate]", TOY, *items, "run_dir=asked", *at)

    return evaluate


def another(body: dict, answer: dict) -> dict:
    """The reply of another model: other texts, and log-probabilities that are half a nat smaller."""
    for choice in answer["choices"]:
        if "message" in choice:
            choice["message"]["content"] = f"{choice['message']['content']}?"
            continue
        choice["text"] = f"{choice['text']}?"
        logprobs = choice.get("logprobs") or {"token_logprobs": [], "top_logprobs": None}
        logprobs["token_logprobs"] = [value and value - 0.5 for value in logprobs["token_logprobs"]]
        for top in logprobs.get("top_logprobs") or ():
            for name in top or ():
                top[name] -= 0.5
    return answer


def interrupted(evaluate, spoiled, count: int, benchmark: str, *settings: str):
    """Return a server that has ended a scoring by failing after `count` requests; it answers again."""
    server = spoiled()
    server.fails = lambda body: 400 if len(server.seen) >= count else None
    with pytest.raises(EndpointError, match="400"):
        evaluate(server.url, benchmark, *settings)
    server.fails = None
    return server


@pytest.fixture
def half_scored(evaluate, spoiled):
    """Stops a scoring of two benchmarks when the first is finished; returns the server and what goes on."""

    def half_scored(first: str, second: str, *settings: str):
        server, answered = spoiled(), []
        limits = [f"benchmarks.{name}.limit=12" for name in (first, second)]
        overrides = (f"benchmark=[{first},{second}]", *limits, *settings)
        server.fails = lambda body: 400 if Path("asked/results.json").exists() else answered.append(body)
        with pytest.raises(EndpointError, match="400"):
            evaluate(server.url, first, *overrides)
        server.fails = None
        scores = json.loads(Path("asked/results.json").read_text("utf-8"))["scores"]
        assert {score["benchmark"] for score in scores} == {first}
        server.seen[:] = answered
        return server, lambda: evaluate(server.url, first, *overrides)

    return half_scored


ORDERS = [(CHOICES, TEXTS, ()), (TEXTS, CHOICES, ()), (CHOICES, TEXTS, ("evaluate.temperature=0.8",))]
"""First and second benchmark, and further settings."""


@pytest.mark.parametrize(("first", "second", "settings"), ORDERS)
def test_a_finished_benchmark_guards_the_next_one_against_another_model(half_scored, first, second, settings):
    server, go_on = half_scored(first, second, *settings)
    server.spoil, results = another, Path("asked/results.json").read_bytes()
    reason = rf"^benchmarks\.{second}: item \S+ of {first}: http\S+ answers otherwise than when the kept"
    with pytest.raises(DataError, match=reason):
        go_on()
    assert Path("asked/results.json").read_bytes() == results


@pytest.mark.parametrize(("first", "second", "settings"), ORDERS)
def test_a_finished_benchmark_is_asked_one_question_or_three_texts_again(
    half_scored, first, second, settings
):
    server, go_on = half_scored(first, second, *settings)
    before = {json.dumps(body, sort_keys=True) for body in server.seen}
    server.seen.clear()
    go_on()
    again = [line for line in (json.dumps(body, sort_keys=True) for body in server.seen) if line in before]
    assert len(again) == (12 + 4 if first == CHOICES else 3)  # a probe of log-likelihoods takes 12
    server.seen.clear()
    go_on()
    assert not server.seen


def cached_lines() -> list[str]:
    return [
        line for path in Path("asked/cache").glob("*.jsonl") for line in path.read_text("utf-8").split("\n")
    ]


CASES = [
    pytest.param(CHOICES, 12 + 20, (), id="choices"),
    pytest.param(TEXTS, 6, (), id="texts"),
    pytest.param(TEXTS, 6, ("endpoint.api=chat",), id="chats"),
]
"""Benchmark, requests until the server fails, and further settings; a probe of choices takes 12 requests."""


@pytest.mark.parametrize(("benchmark", "count", "settings"), CASES)
def test_another_model_under_the_same_name_does_not_answer_the_rest(
    evaluate, spoiled, benchmark, count, settings
):
    server = interrupted(evaluate, spoiled, count, benchmark, *settings)
    server.spoil = another
    kept = cached_lines()
    reason = rf"^benchmarks\.{benchmark}: item \S+: http\S+ answers otherwise than when the kept answers"
    with pytest.raises(DataError, match=reason) as error:
        evaluate(server.url, benchmark, *settings)
    assert "another run_dir" in str(error.value) and "force=true" in str(error.value)
    assert "\n" not in str(error.value)
    assert cached_lines() == kept and not Path("asked/results.json").exists()
    run_dir = evaluate(server.url, benchmark, *settings, "force=true")
    lines = run_dir.predictions("base", benchmark).read_text("utf-8").splitlines()
    assert len(lines) == 12
    if benchmark == TEXTS:
        assert all(json.loads(line)["generation"].endswith("?") for line in lines)


@pytest.mark.parametrize(("benchmark", "count", "settings"), CASES)
def test_the_same_model_is_asked_one_kept_question_or_three_kept_texts_again(
    evaluate, spoiled, benchmark, count, settings
):
    server = interrupted(evaluate, spoiled, count, benchmark, *settings)
    before = [json.dumps(body, sort_keys=True) for body in server.seen[:-1]]
    server.seen.clear()
    evaluate(server.url, benchmark, *settings)
    again = [line for line in (json.dumps(body, sort_keys=True) for body in server.seen) if line in before]
    if benchmark == CHOICES:
        assert 4 <= len(again) - 12 <= 2 * 4  # a kept question, and the one that was asked when it failed
    else:
        assert len(again) == 3
    server.seen.clear()
    evaluate(server.url, benchmark, *settings)
    assert not server.seen


def test_one_text_that_a_servers_rounding_has_changed_is_a_warning(evaluate, spoiled, caplog, monkeypatch):
    server, first = interrupted(evaluate, spoiled, 6, TEXTS), []

    def once(body: dict, answer: dict) -> dict:
        if first:
            return answer
        first.append(body)
        return another(body, answer)

    server.spoil = once
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    run_dir = evaluate(server.url, TEXTS)
    assert first and "other kept texts are the same" in caplog.text
    assert len(run_dir.predictions("base", TEXTS).read_text("utf-8").splitlines()) == 12


def test_nothing_is_asked_again_where_kept_answers_are_drawn(evaluate, spoiled):
    drawn = ("evaluate.temperature=0.8",)
    server = interrupted(evaluate, spoiled, 6, TEXTS, *drawn)
    before = [json.dumps(body, sort_keys=True) for body in server.seen[:-1]]
    server.spoil = another
    server.seen.clear()
    evaluate(server.url, TEXTS, *drawn)
    assert not set(before) & {json.dumps(body, sort_keys=True) for body in server.seen}


def test_endpoint_tolerance_is_that_of_the_kept_log_likelihoods(evaluate, spoiled):
    server = interrupted(evaluate, spoiled, 32, CHOICES)
    server.spoil = another
    evaluate(server.url, CHOICES, "endpoint.tolerance=90")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling", "generate_until"])
def test_tasks_of_the_harness_are_not_continued_by_another_model(spoiled, lm, tmp_path, kind):
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    from workbench.evaluation.harness.model import HarnessLM

    server = spoiled()
    second = {
        "loglikelihood": (" 2",),
        "loglikelihood_rolling": (),
        "generate_until": ({"until": ["。"], "max_gen_toks": 12},),
    }[kind]
    requests = [
        instance(kind, {}, (context, *second), index, metadata=("task", index, 1))
        for index, context in enumerate(("1 + 1 =", "2 + 2 =", "小军说早上好。"))
    ]

    def answered(count: int) -> list:
        remote = EndpointLM(
            EndpointModel(server.url, EndpointConfig(retries=0)), lm.tokenizer, EvaluateConfig()
        )
        cache, rows = AnswerCache(tmp_path, "model", kind), {"task": [17, 4, 5]}
        return getattr(HarnessLM(remote, cache, samples=rows), kind)(requests[:count])

    first = answered(2)
    assert answered(2) == first
    server.spoil = another
    with pytest.raises(
        DataError, match=r"^task 'task', document (17|4): \S+ answers otherwise than when the"
    ):
        answered(3)
    server.spoil = lambda body, answer: answer
    assert answered(3)[:2] == first
