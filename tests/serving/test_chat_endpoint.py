"""Endpoints that are asked by chats alone: generated answers, under a protocol of their own."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from json_server import JsonServer
from run_recipe import run_recipe

from workbench.config.benchmark import BenchmarkConfig, GenerationConfig, OutputType, ProtocolConfig
from workbench.errors import ConfigError, EndpointError
from workbench.evaluation.tasks.chat_generation import check_written
from workbench.leaderboard.collect import collect
from workbench.run_dir import RunDir, read_json
from workbench.shipped import PACKAGE

ITEMS = ("benchmark=[toy_exact_en]", "benchmarks.toy_exact_en.limit=6")


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Runs recipe=evaluate without its leaderboard in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def evaluate(name: str, *overrides: str, items=ITEMS, steps: str = "evaluate") -> RunDir:
        return run_recipe("evaluate", f"steps=[{steps}]", *items, f"run_dir={name}", *overrides)

    return evaluate


def predictions(run_dir: RunDir, benchmark: str = "toy_exact_en") -> list[dict]:
    lines = run_dir.predictions("base", benchmark).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def chats_alone(answer: str | None = "42"):
    """A server without completions and without a list of models."""

    def reply(path: str, body):
        if path != "/v1/chat/completions":
            return 404, {"error": {"message": "Not Found"}}
        return 200, {"choices": [{"message": {"role": "assistant", "content": answer}}]}

    return JsonServer(reply)


@pytest.fixture
def chats():
    servers = []

    def chats(answer: str | None = "42") -> JsonServer:
        servers.append(chats_alone(answer))
        return servers[-1]

    yield chats
    for server in servers:
        server.stop()


def at(server: JsonServer) -> tuple[str, ...]:
    return f"model.endpoint={server.url}", "endpoint.api=chat", "endpoint.model=large", "endpoint.retries=0"


def test_answers_are_those_of_the_served_models_chats(evaluate, served):
    url = f"model.endpoint={served.url}"
    asked = (
        "benchmarks.toy_exact_en.description=Be brief.",
        "benchmarks.toy_exact_en.generation.max_new_tokens=9",
    )
    run_dir = evaluate("asked", url, "endpoint.api=chat", *asked)
    for prediction in predictions(run_dir):
        messages = json.loads(prediction["context"])
        assert [message["role"] for message in messages] == ["system", "user"]
        assert messages[0]["content"] == "Be brief."
        body = {"model": "base", "messages": messages, "max_tokens": 9, "stop": ["\n"]}
        _, reply = served.ask("/v1/chat/completions", body)
        assert prediction["generation"] == reply["choices"][0]["message"]["content"].split("\n")[0]


def test_no_tokenizer_is_needed_and_greedy_answers_are_asked_for(evaluate, chats):
    server = chats("42\nand more")
    run_dir = evaluate("asked", *at(server))
    assert {prediction["generation"] for prediction in predictions(run_dir)} == {"42"}
    assert len(server.seen) == 6 and all(body["model"] == "large" for body in server.seen)
    assert all(body["temperature"] == 0 and body["max_tokens"] and body["stop"] for body in server.seen)
    assert read_json(run_dir.results_json)["base_model"] == "large"
    evaluate("asked", *at(server))
    assert len(server.seen) == 6


def test_scores_are_served_and_compared_with_no_score_of_another_protocol(evaluate, chats):
    evaluate("runs/served", *at(chats()))
    evaluate("runs/own", f"model.path={PACKAGE / 'toy' / 'base'}")
    scores = {run.files.path.name: run.scores[0] for run in collect(Path("runs")).runs}
    assert scores["served"].note == "served" and scores["own"].note == ""
    assert scores["served"].protocol == f"{scores['own'].protocol}, by the endpoint's chats"
    assert scores["served"].benchmark == scores["own"].benchmark == "toy_exact_en"


def test_a_system_text_is_a_message_and_examples_may_precede_the_question(evaluate, chats):
    server = chats()
    evaluate("asked", *at(server), "evaluate.system=Be brief.", "evaluate.fewshot_as_turns=false")
    assert all(body["messages"][0] == {"role": "system", "content": "Be brief."} for body in server.seen)
    assert all(len(body["messages"]) == 2 for body in server.seen)


def test_a_message_without_a_text_is_an_answer_without_one(evaluate, chats):
    run_dir = evaluate("asked", *at(chats(None)))
    assert {prediction["generation"] for prediction in predictions(run_dir)} == {""}


@pytest.mark.parametrize(
    ("message", "generation"),
    [
        ({"content": ""}, ""),
        ({"content": None, "tool_calls": [{"id": "1", "type": "function"}]}, ""),
        ({"content": None, "reasoning_content": "long"}, ""),
        ({"content": "half \ud83d"}, "half \ufffd"),
        ({"content": "whole \ud83d\udc3c"}, "whole 🐼"),
    ],
)
def test_unusual_messages_are_answers(evaluate, message, generation):
    reply = {"choices": [{"message": message, "finish_reason": None}]}
    server = JsonServer(lambda path, body: (404, {}) if body is None else (200, reply))
    try:
        run_dir = evaluate("asked", *at(server))
    finally:
        server.stop()
    assert {prediction["generation"] for prediction in predictions(run_dir)} == {generation}


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": 5}}]},
        {"choices": [{"text": "42"}]},
        {"choices": [{"message": {"content": "42"}}] * 2},
        [],
        "42",
    ],
)
def test_replies_without_a_message_are_an_error_in_one_line(evaluate, reply):
    server = JsonServer(lambda path, body: (404, {}) if body is None else (200, reply))
    try:
        with pytest.raises(EndpointError, match="a reply") as error:
            evaluate("asked", *at(server))
    finally:
        server.stop()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["benchmark=[toy_choice_zh]"], "benchmarks.toy_choice_zh: multiple_choice needs log-probabilities"),
        (["evaluate.max_length=100"], "evaluate.max_length: not with endpoint.api=chat"),
        (["evaluate.verify=2"], "evaluate.verify: not with endpoint.api=chat"),
        (["evaluate.too_long=skip"], "evaluate.too_long: not with endpoint.api=chat"),
        (["evaluate.shared_prefix=false"], "evaluate.shared_prefix: not with model.endpoint"),
        (
            ["benchmark=[toy_exact_en]", "benchmarks.toy_exact_en.chat_template=false"],
            "benchmarks.toy_exact_en.chat_template: not with endpoint.api=chat",
        ),
    ],
)
def test_what_needs_tokens_is_refused_by_name_before_anything_is_asked(evaluate, chats, overrides, reason):
    server = chats()
    with pytest.raises(ConfigError, match=reason):
        evaluate("refused", *at(server), *overrides, items=ITEMS if "benchmark" not in overrides[0] else ())
    assert not server.seen


def test_a_benchmark_of_choices_names_the_protocols_that_write():
    chosen = BenchmarkConfig(
        language="en",
        output_type=OutputType.multiple_choice,
        question="{{ q }}",
        protocols={"official": ProtocolConfig(), "chat": ProtocolConfig(output_type=OutputType.generation)},
    )
    way_out = r"\(benchmarks\.mmlu\.protocol=chat, or endpoint\.api=completions\)"
    with pytest.raises(ConfigError, match=way_out):
        check_written({"mmlu": chosen})
    check_written({"mmlu": replace(chosen, output_type=OutputType.generation)})


def test_an_endpoint_of_chats_alone_says_how_it_is_asked(evaluate, chats):
    with pytest.raises(EndpointError, match="endpoint.api=chat if it has chats alone"):
        evaluate("asked", *at(chats())[::2], f"model.path={PACKAGE / 'toy' / 'base'}", "endpoint.retries=0")


def test_the_command_needs_no_model_and_makes_a_new_run(chats, tmp_path):
    command = [
        sys.executable,
        "-m",
        "workbench",
        "recipe=evaluate",
        "steps=[evaluate]",
        *ITEMS,
        "run_dir=asked",
    ]
    done = subprocess.run([*command, *at(chats())], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(predictions(RunDir(tmp_path / "asked"))) == 6
    completions = [*command[:-1], "run_dir=other", *at(chats())[:1], "endpoint.model=large"]
    done = subprocess.run(completions, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "model.path: not given" in done.stderr + done.stdout


def test_the_board_has_a_column_of_its_own_for_chats(evaluate, chats, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    evaluate("runs/served", *at(chats()))
    evaluate("runs/own", f"model.path={PACKAGE / 'toy' / 'base'}", steps="evaluate,leaderboard")
    board = json.loads(Path("runs/leaderboard.json").read_text("utf-8"))
    assert "by the endpoint's chats" in json.dumps(board)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "(<think>), ended by the model or by generation.stop, and so have no answer"),
        ("length", "max_new_tokens, and so have no answer (a larger benchmarks.toy_exact_en.generation.max_"),
        (None, "(<think>), ended for a reason that isn't told, and so have no answer"),
    ],
)
def test_an_open_thought_says_what_the_endpoint_tells(evaluate, caplog, monkeypatch, reason, told):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    choice = {"message": {"role": "assistant", "content": "<think>so"}, "finish_reason": reason}
    server = JsonServer(lambda path, body: (200, {"choices": [choice]}))
    try:
        evaluate("open", *at(server))
    finally:
        server.stop()
    [warning] = [text for text in caplog.messages if "within a thought" in text]
    assert warning.startswith("benchmarks.toy_exact_en: 6 of 6 answers end") and told in warning
    assert "thinking_budget" not in warning and "template_arguments" not in warning


def test_a_thinking_budget_is_refused_where_thoughts_cant_be_closed():
    chosen = BenchmarkConfig(
        language="en", output_type=OutputType.generation, generation=GenerationConfig(thinking_budget=200)
    )
    with pytest.raises(ConfigError, match=r"^evaluate\.thinking_budget: 200 \(for benchmarks\.mine\) needs"):
        check_written({"mine": chosen})
