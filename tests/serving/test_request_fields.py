"""An endpoint is asked in the fields that it takes, which are found out by its first refusals."""

import logging
import threading
from dataclasses import replace

import pytest
from json_server import JsonServer

from workbench.config import EndpointConfig
from workbench.config.benchmark import GenerationConfig
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.at_once import at_once
from workbench.evaluation.endpoint.chat_endpoint import ChatEndpoint
from workbench.evaluation.endpoint.endpoint_decoder import sampling_fields
from workbench.evaluation.endpoint.endpoint_model import EndpointModel

GREEDY = GenerationConfig(stop=[])
DRAWN = replace(GREEDY, temperature=0.5)
OPENAI = {
    "repetition_penalty": "Unrecognized request argument supplied: repetition_penalty",
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
}
"""Field -> the words with which newer models of OpenAI refuse it."""


@pytest.fixture
def refusing(caplog, monkeypatch):
    """Starts servers that refuse fields, and returns them with the model that is asked there."""
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    servers = []

    def start(refused: dict[str, str]) -> tuple[JsonServer, EndpointModel]:
        def reply(path: str, body):
            if body is None:
                return 200, {"data": [{"id": "toy"}]}
            words = next((refused[name] for name in refused if name in body), None)
            if words is not None:
                return 400, {"error": {"message": words}}
            text = {"text": "x"} if path == "/v1/completions" else {"message": {"content": "x"}}
            return 200, {"choices": [text]}

        servers.append(JsonServer(reply))
        return servers[-1], EndpointModel(servers[-1].url, EndpointConfig(retries=0))

    yield start
    for server in servers:
        server.stop()


def by_completions(model: EndpointModel, limits: GenerationConfig) -> None:
    model.complete([5, 6], **sampling_fields(limits, "x", 300))


def by_chat(model: EndpointModel, limits: GenerationConfig) -> None:
    model.chat([{"role": "user", "content": "Hi"}], **sampling_fields(limits, "x"))


@pytest.fixture(params=[by_completions, by_chat])
def ask(request):
    return request.param


def test_taken_fields_are_sent_once_for_each_request(refusing, ask, caplog):
    server, model = refusing({})
    for limits in (GREEDY, DRAWN, GREEDY):
        ask(model, limits)
    assert len(server.seen) == 3 and all(body["repetition_penalty"] == 1 for body in server.seen)
    assert all("max_tokens" in body for body in server.seen) and not caplog.text


def test_a_refused_field_that_changes_nothing_is_left_out_of_all_later_requests(refusing, ask, caplog):
    server, model = refusing({"repetition_penalty": "no such field"})
    for _ in range(3):
        ask(model, GREEDY)
    assert ["repetition_penalty" in body for body in server.seen] == [True, False, False, False]
    assert caplog.text.count("takes no repetition_penalty, so that its own default counts") == 1


def test_a_field_that_is_first_sent_later_is_left_out_too_and_no_other_one(refusing, caplog):
    server, model = refusing({"top_k": "no such field"})
    for limits in (GREEDY, DRAWN, DRAWN):
        by_completions(model, limits)
    assert ["top_k" in body for body in server.seen] == [False, True, False, False]
    assert all("repetition_penalty" in body for body in server.seen)
    assert "takes no top_k," in caplog.text


def test_a_field_that_the_refusal_names_is_left_out_alone(refusing):
    server, model = refusing({"top_k": "top_k: extra inputs are not permitted"})
    by_completions(model, DRAWN)
    assert len(server.seen) == 2 and "repetition_penalty" in server.seen[-1]


def test_what_changes_answers_is_sent_and_its_refusal_an_error(refusing, ask):
    server, model = refusing({"repetition_penalty": "no such field"})
    ask(model, GREEDY)
    for _ in range(2):
        with pytest.raises(EndpointError, match="no such field"):
            ask(model, replace(GREEDY, repetition_penalty=1.5))
    assert [body.get("repetition_penalty") for body in server.seen] == [1, None, 1.5, 1.5]


def test_a_penalty_of_1_is_left_out_beside_a_top_k_that_changes_answers(refusing, ask):
    server, model = refusing({"repetition_penalty": "no such field"})
    ask(model, replace(DRAWN, top_k=7))
    assert "repetition_penalty" not in server.seen[-1] and server.seen[-1]["top_k"] == 7


def test_the_newer_name_of_max_tokens_is_sent_where_the_refusal_says_so(refusing, ask):
    server, model = refusing(OPENAI)
    for _ in range(3):
        ask(model, GREEDY)
    assert len(server.seen) == 5
    for body in server.seen[2:]:
        assert body["max_completion_tokens"] == GREEDY.max_new_tokens
        assert not {"max_tokens", "repetition_penalty"} & set(body)


def test_a_length_that_is_refused_is_not_sent_under_another_name(refusing, ask):
    server, model = refusing({"max_tokens": "max_tokens is too large"})
    with pytest.raises(EndpointError, match="too large"):
        ask(model, GREEDY)
    assert not any("max_completion_tokens" in body for body in server.seen)


def test_a_refusal_after_an_answer_is_not_asked_again(refusing, ask):
    refused: dict[str, str] = {}
    server, model = refusing(refused)
    ask(model, GREEDY)
    refused["model"] = "max_tokens or max_completion_tokens is too large"
    with pytest.raises(EndpointError, match="too large"):
        ask(model, GREEDY)
    assert len(server.seen) == 2


def test_eight_threads_are_refused_each_field_once(refusing, caplog):
    server, model = refusing(OPENAI)
    model.settings.concurrency = 8
    chats = [[{"role": "user", "content": str(number)}] for number in range(40)]
    answers = dict(ChatEndpoint(model).texts(chats, [""] * 40, GREEDY))
    assert len(answers) == 40 and {answer.text for answer in answers.values()} == {"x"}
    assert caplog.text.count("takes no repetition_penalty") == 0, "repeat_penalty is taken"
    assert len(server.seen) == 40 + len(OPENAI)
    asked = [body["messages"][0]["content"] for body in server.seen[len(OPENAI) :]]
    assert sorted(asked) == sorted(str(number) for number in range(40))


def test_a_refusal_that_lists_the_known_fields_drops_the_refused_one_alone(refusing, caplog):
    words = "'repeat_penalty' is not a field of this server (known: max_tokens, repetition_penalty, top_k)"
    server, model = refusing({"repeat_penalty": words})
    for _ in range(2):
        by_completions(model, DRAWN)
    assert len(server.seen) == 3 and not caplog.text
    assert all({"repetition_penalty", "top_k", "max_tokens"} <= set(body) for body in server.seen)


def test_a_penalty_is_sent_by_the_name_of_llama_cpp_too(refusing, ask, caplog):
    server, model = refusing({"repetition_penalty": "no field repetition_penalty"})
    ask(model, GREEDY)
    assert server.seen[-1]["repeat_penalty"] == 1 and not caplog.text
    server, model = refusing({"repeat_penalty": "no field repeat_penalty"})
    ask(model, replace(GREEDY, repetition_penalty=1.5))
    assert (
        server.seen[0]["repeat_penalty"] == server.seen[-1]["repetition_penalty"] == 1.5 and not caplog.text
    )


def test_what_the_completions_refuse_is_still_sent_to_the_chats(refusing):
    refused = {"repetition_penalty": "no field repetition_penalty"}
    server, model = refusing(refused)
    by_completions(model, GREEDY)
    refused.clear()
    by_chat(model, GREEDY)
    assert "repetition_penalty" in server.seen[-1]


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_only_a_refusal_of_the_content_is_asked_again_with_fewer_fields(status):
    server = JsonServer(lambda path, body: (200, {"data": [{"id": "toy"}]}) if body is None else (status, {}))
    try:
        with pytest.raises(EndpointError, match=str(status)):
            by_completions(EndpointModel(server.url, EndpointConfig(retries=0)), GREEDY)
        assert len(server.seen) == 1
    finally:
        server.stop()


def test_answers_that_come_after_another_ones_error_are_not_lost():
    first, late = threading.Event(), threading.Event()

    def fails() -> int:
        first.wait(20)
        late.set()
        raise ValueError("the first")

    def answers() -> int:
        first.set()
        late.wait(20)
        return 7

    results = []
    with pytest.raises(ValueError, match="the first"):
        for pair in at_once([fails, answers], 2):
            results.append(pair)
    assert results == [(1, 7)]


def test_no_task_is_begun_after_an_error():
    begun = []

    def fails() -> None:
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        list(at_once([fails, lambda: begun.append(1)], 1))
    assert not begun
