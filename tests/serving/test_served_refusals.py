"""What a request may not have: each refusal names the field, and none is ignored."""

import json

import pytest

from workbench.config import ServeConfig
from workbench.errors import ConfigError
from workbench.serving.access import KEY_VARIABLE, Access

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PLAIN = {"model": "base", "prompt": "x", "max_tokens": 1}
ASKED = {"model": "base", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
KEY = "a-key-of-more-than-16-characters"

WRONG_COMPLETIONS = {
    "max_new_tokens": 5,
    "chat_template": "{{ messages }}",
    "adapter_path": "/etc",
    "prompt_logprobs": 1,
    "logit_bias": {"5": 100},
    "frequency_penalty": 0.5,
    "presence_penalty": True,
    "best_of": 2,
    "suffix": "end",
    "max_tokens": 4097,
    "n": 129,
    "logprobs": 21,
    "echo": "yes",
    "temperature": "0",
    "top_p": 0,
    "top_k": 1.5,
    "seed": 0.5,
    "stop": ["a"] * 17,
    "stream": 1,
    "stream_options": {"include_usage": True},
    "user": 7,
    "return_tokens_as_token_ids": True,
}
WRONG_CHATS = {
    "tools": [{"type": "function"}],
    "tool_choice": "auto",
    "response_format": {"type": "json_object"},
    "chat_template_kwargs": {},
    "documents": [],
    "max_tokens": 0,
    "max_completion_tokens": 1,
    "top_logprobs": 1,
    "logprobs": 1,
    "echo": True,
    "messages": [{"role": "assistant", "content": "x"}],
}


@pytest.mark.parametrize("name", WRONG_COMPLETIONS)
def test_a_completion_field_without_an_effect_or_out_of_range_is_refused_by_name(served, name):
    status, answer = served.ask(COMPLETIONS, {**PLAIN, name: WRONG_COMPLETIONS[name]})
    assert (status, answer["error"]["param"]) == (400, name)
    assert name in answer["error"]["message"]


@pytest.mark.parametrize("name", WRONG_CHATS)
def test_a_chat_field_without_an_effect_or_out_of_range_is_refused_by_name(served, name):
    status, answer = served.ask(CHAT, {**ASKED, name: WRONG_CHATS[name]})
    assert status == 400 and name.split("_")[-1] in answer["error"]["message"]


def test_fields_of_the_interface_that_change_nothing_are_taken(served):
    neutral = {
        "frequency_penalty": 0,
        "logit_bias": {},
        "best_of": 1,
        "suffix": None,
        "stop": None,
        "n": None,
    }
    assert served.ask(COMPLETIONS, {**PLAIN, **neutral, "user": "me", "seed": 1})[0] == 200
    chat = {"tools": [], "response_format": {"type": "text"}, "presence_penalty": 0.0, "logprobs": False}
    assert served.ask(CHAT, {**ASKED, **chat})[0] == 200


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": "x", "name": "me"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]},
        {"role": "user", "content": [{"type": "text", "text": "x", "path": "/etc"}]},
        {"role": ["user"], "content": "x"},
        "x",
    ],
)
def test_a_message_of_anything_but_role_and_text_is_refused(served, message):
    status, answer = served.ask(CHAT, {**ASKED, "messages": [message]})
    assert status == 400 and "messages[0]" in answer["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "base", "model": "base", "prompt": "x"}',
        b'{"model": "base", "prompt": "x", "temperature": NaN}',
        b'{"model": "base", "prompt": "x", "temperature": 1e999}',
        b'{"model": "base", "prompt": "x", "temperature": 1' + b"0" * 400 + b"}",
        b'{"model": "base", "prompt": "x", "temperature": 1, "top_p": -1' + b"0" * 400 + b"}",
        b'{"model": "base", "prompt": "x", "\\ud800": 1}',
        b'{"model": "base", "prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        b'{"model": "base", "prompt": "\\ud800"}',
        b'{"model": "base", "prompt": "x", "stop": ["\\udfff"]}',
        b'{"model": "base", "prompt": []}',
        b'{"model": "base", "prompt": [[]]}',
        b'{"model": "base", "prompt": [true]}',
        b'{"model": "base", "prompt": ["x", [1]]}',
        b'{"model": "base", "prompt": {"path": "/etc/passwd"}}',
        b'{"model": "base"}',
        b'{"prompt": "x"}',
        b'{"model": "base", "prompt": "x", "stop": ""}',
        b'{"model": "base", "prompt": "x", "max_tokens": 0}',
        b'{"model": "base", "prompt": "x", "top_p": 0.5}',
        b'{"model": "base", "prompt": "x", "top_p": 0.5, "temperature": 0}',
        b'{"model": "base", "prompt": "x", "top_k": 5, "temperature": 0.0}',
        b'{"model": "base", "prompt": "x", "logprobs": 1, "stream": true}',
        b'{"model": "base", "prompt": "x", "temperature": 1e-300}',
    ],
)
def test_malformed_bodies_are_refused_and_the_next_request_is_answered(served, body):
    status, text = served.send(COMPLETIONS, body)
    assert status == 400 and json.loads(text)["error"]["type"] == "invalid_request_error"
    assert served.ask(COMPLETIONS, PLAIN)[0] == 200


def test_more_answers_than_allowed_are_refused(serve):
    server = serve(max_answers=4)
    for prompts, n, status in ((["x"] * 4, 1, 200), (["x"] * 5, 1, 400), (["x"] * 3, 2, 400)):
        assert server.ask(COMPLETIONS, {**PLAIN, "prompt": prompts, "n": n, "temperature": 1})[0] == status


@pytest.mark.parametrize("name", ["../base", "/etc/passwd", "adapter", "", "b" * 10_000])
def test_a_model_is_one_of_the_servers_names_and_never_a_path(served, name):
    status, answer = served.ask(COMPLETIONS, {**PLAIN, "model": name})
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert len(json.dumps(answer)) < 1000


def test_models_and_health(served, lm):
    status, answer = served.ask("/v1/models")
    assert status == 200 and [model["id"] for model in answer["data"]] == ["base"]
    assert served.ask("/v1/models/base")[1]["max_model_len"] == lm.max_length
    assert served.ask("/v1/models/other")[0] == 404
    assert served.ask("/health") == (200, {"status": "ok"})


def test_other_paths_and_methods_are_refused(served):
    assert served.ask("/v1/embeddings", {})[0] == 404
    assert served.ask("/v1/load_model", {"path": "/etc"})[0] == 404
    assert served.ask("/v1/completions")[0] == 405
    assert served.ask("/v1/models", {})[0] == 405
    assert served.ask("/v1/models?x=1")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "8.8.8.8", "[::2]"]
)
def test_a_foreign_host_is_refused_before_the_key_is_looked_at(served, host):
    for path, body in (("/health", None), (COMPLETIONS, PLAIN)):
        assert served.ask(path, body, Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:8000", "127.0.0.2"])
def test_a_host_of_this_machine_is_taken(served, host):
    assert served.ask("/health", Host=host)[0] == 200


def test_a_named_host_is_taken(serve):
    assert serve(hosts=["models.example"]).ask("/health", Host="Models.example:443")[0] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8000"])
def test_a_page_of_a_browser_is_refused(served, origin):
    assert served.ask(COMPLETIONS, PLAIN, Origin=origin)[0] == 403


def test_a_body_that_a_form_could_send_is_refused(served):
    kind = {"Content-Type": "text/plain"}
    assert served.send(COMPLETIONS, json.dumps(PLAIN).encode(), **kind)[0] == 415
    for coding, status in (("gzip", 415), ("identity", 200)):
        assert (
            served.send(COMPLETIONS, json.dumps(PLAIN).encode(), **{"Content-Encoding": coding})[0] == status
        )


def test_a_key_is_needed_once_there_is_one(serve, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server = serve()
    near = (f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Bearer{KEY}", f"Bearer {KEY.upper()}", f"Basic {KEY}")
    for header in (None, "", KEY, "Bearer", "Bearer é", *near):
        headers = {} if header is None else {"Authorization": header}
        status, answer = server.ask(COMPLETIONS, PLAIN, **headers)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert server.ask("/v1/models", **headers)[0] == 401
        assert KEY not in json.dumps(answer)
    for scheme in ("Bearer", "bearer", "BEARER "):  # RFC 9110: case-insensitive, then one or more spaces
        assert server.ask(COMPLETIONS, PLAIN, Authorization=f"{scheme} {KEY}")[0] == 200
    assert server.ask("/health")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.org"])
def test_an_address_that_others_can_reach_needs_a_key(monkeypatch, host):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=KEY_VARIABLE):
        Access(ServeConfig(host=host))
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    Access(ServeConfig(host=host))


@pytest.mark.parametrize("key", ["short", "with a space in the middle", "schlüssel-schlüssel"])
def test_a_poor_key_is_refused_without_showing_it(monkeypatch, key):
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ConfigError) as caught:
        Access(ServeConfig())
    assert key not in str(caught.value)


def test_the_configuration_refuses_unknown_models_and_names():
    with pytest.raises(ConfigError, match=r"serve.models: unknown model 'x'"):
        ServeConfig(models=["x"])
    with pytest.raises(ConfigError, match=r"serve.adapters: 'base'"):
        ServeConfig(adapters={"base": "folder"})
    with pytest.raises(ConfigError, match=r"serve.host: empty \(0.0.0.0 "):
        ServeConfig(host="")
    with pytest.raises(ConfigError, match=r"serve.adapters: 'a/b'"):
        ServeConfig(adapters={"a/b": "folder"})


def test_the_penalty_of_repetition_has_llama_cpps_name_too(served):
    prompt = {"model": "base", "prompt": "1 + 1 = 2, 1 + 1 = 2, 1 + 1 =", "max_tokens": 20}
    texts = [
        served.ask(COMPLETIONS, {**prompt, **penalty})[1]["choices"][0]["text"]
        for penalty in ({"repeat_penalty": 3}, {"repetition_penalty": 3}, {"repeat_penalty": 1}, {})
    ]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    status, answer = served.ask(COMPLETIONS, {**prompt, "repeat_penalty": 1.5, "repetition_penalty": 1})
    assert status == 400 and answer["error"]["param"] == "repeat_penalty"
