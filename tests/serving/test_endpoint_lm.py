"""An endpoint in the place of a model: the same scores and texts, and wrong servers refused."""

import logging
import time

import pytest
from json_server import JsonServer, ask
from wrong_servers import first, shifted, shortened, with_beginning, without_echo, without_first, zeros

from workbench.config import EndpointConfig, EvaluateConfig
from workbench.config.benchmark import GenerationConfig
from workbench.errors import ConfigError, EndpointError
from workbench.evaluation.endpoint.at_once import at_once
from workbench.evaluation.endpoint.client import KEY_VARIABLE, checked_url
from workbench.evaluation.endpoint.endpoint_decoder import EndpointDecoder
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.tasks.thinking import Prompt, ThinkingDecoder

PAIRS = [
    (context, continuation)
    for context in ("1 + 1 =", "小军说早上好。", "The capital of France is", "")
    for continuation in (" 2", "。好", " Paris 🐼")
]
KEY = "a-secret-endpoint-key"


def endpoint(url: str, lm, **settings) -> EndpointLM:
    config = EndpointConfig(**{"retries": 0, **settings})
    return EndpointLM(EndpointModel(url, config), lm.tokenizer, EvaluateConfig())


def test_log_likelihoods_are_those_of_the_weights(served, lm):
    remote = endpoint(served.url, lm)
    requests = lm.encode_pairs(PAIRS)
    assert remote.encode_pairs(PAIRS) == requests
    for found, expected in zip(remote.loglikelihoods(requests), lm.loglikelihoods(requests), strict=True):
        assert abs(found.loglikelihood - expected.loglikelihood) < 1e-4
        assert (found.num_tokens, found.greedy) == (expected.num_tokens, expected.greedy)


def test_generated_texts_are_those_of_the_weights(served, lm):
    limits = GenerationConfig(max_new_tokens=20, stop=["。", "\n"])
    prompts = lm.encode([context for context, _ in PAIRS if context])
    seeds = [""] * len(prompts)
    found = dict(EndpointDecoder(endpoint(served.url, lm), limits, False).stream(prompts, seeds))
    assert found == dict(Decoder(lm, limits).stream(prompts, seeds))


@pytest.mark.parametrize(
    ("change", "spoil", "reason"),
    [
        (without_echo, None, "tokens where"),
        (None, shifted, "not consistent with itself"),
        (None, shortened, "tokens where"),
        (None, zeros, "about 0.00"),
        (None, without_first, "no log-probability of a generated token"),
        (with_beginning, None, "tokens where"),
    ],
)
def test_a_server_with_wrong_log_probabilities_is_refused_before_an_item_is_scored(
    spoiled, lm, change, spoil, reason
):
    server = spoiled(**{k: v for k, v in {"change": change, "spoil": spoil}.items() if v})
    requests = lm.encode_pairs(PAIRS)
    with pytest.raises(EndpointError, match=reason):
        endpoint(server.url, lm).loglikelihoods(requests)
    read = {tuple(body.get("prompt", ())) for body in server.seen}
    assert len(read) >= 2 and not read & {request.tokens for request in requests}


def test_a_right_server_behind_the_same_proxy_is_scored(spoiled, lm):
    requests = lm.encode_pairs(PAIRS)
    found = endpoint(spoiled().url, lm).loglikelihoods(requests)
    expected = lm.loglikelihoods(requests)
    assert all(abs(a.loglikelihood - b.loglikelihood) < 1e-4 for a, b in zip(found, expected, strict=True))


def test_tokens_are_found_by_their_texts_where_the_endpoint_gives_no_ids(served, lm):
    remote = endpoint(served.url, lm)
    ids = lm.tokenizer("The panda", add_special_tokens=False)["input_ids"][1:]
    names = [remote.tokenizer.decode([*remote.encode(["a"])[0][1:], token])[1:] for token in ids]
    assert remote._ids_of(names) == ids
    assert remote._ids_of(["no token has this text"]) is None


def test_sampling_is_always_sent(spoiled, lm):
    server = spoiled()
    remote = endpoint(server.url, lm)
    remote.loglikelihoods(lm.encode_pairs(PAIRS[:1]))
    list(EndpointDecoder(remote, GenerationConfig(stop=[]), False).stream([[5, 6]], ["x"]))
    assert all(body["temperature"] == 0 and body["top_p"] == 1 for body in server.seen)
    assert server.seen[-1]["repetition_penalty"] == 1 and "top_k" not in server.seen[-1]
    drawn = GenerationConfig(stop=[], temperature=0.5, repetition_penalty=1.2)
    [(_, text)] = EndpointDecoder(remote, drawn, False).stream([[5, 6]], ["x"])
    sent = {name: server.seen[-1][name] for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
    # All tokens of the vocabulary: servers name "all" by -1 or by 0, and refuse the other.
    assert list(sent.values()) == [0.5, 1, remote.vocabulary, 1.2]
    assert dict(EndpointDecoder(remote, drawn, False).stream([[5, 6]], ["x"])) == {0: text}


def test_a_penalty_of_repetition_is_the_endpoints_as_well(served, lm):
    limits = GenerationConfig(max_new_tokens=20, stop=[], repetition_penalty=1.5)
    prompts = lm.encode([context for context, _ in PAIRS if context])
    seeds = [""] * len(prompts)
    found = dict(EndpointDecoder(endpoint(served.url, lm), limits, False).stream(prompts, seeds))
    assert found == dict(Decoder(lm, limits).stream(prompts, seeds))
    plain = GenerationConfig(max_new_tokens=20, stop=[])
    assert found != dict(Decoder(lm, plain).stream(prompts, seeds))


def test_an_endpoint_without_penalties_is_asked_without_unless_they_change_answers(
    spoiled, lm, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    server = spoiled(fails=lambda body: 400 if {"repetition_penalty", "repeat_penalty"} & set(body) else None)
    remote, prompts = endpoint(server.url, lm, concurrency=1), [[5, 6], [5, 7], [6, 7]]
    found = dict(EndpointDecoder(remote, GenerationConfig(stop=[]), False).stream(prompts, ["x"] * 3))
    assert found == dict(Decoder(lm, GenerationConfig(stop=[])).stream(prompts, ["x"] * 3))
    assert caplog.text.count("takes no repetition_penalty, so that its own default counts") == 1
    num_sent = len(server.seen)
    list(EndpointDecoder(remote, GenerationConfig(stop=[]), False).stream(prompts[:1], ["x"]))
    assert len(server.seen) == num_sent + 1
    with pytest.raises(EndpointError, match="status 400"):
        penalty = GenerationConfig(stop=[], repetition_penalty=1.5)
        list(EndpointDecoder(remote, penalty, False).stream(prompts[:1], ["x"]))


def test_an_answer_from_an_endpoint_says_why_it_ends(served, lm):
    prompts = lm.encode([context for context, _ in PAIRS if context])
    seeds, reasons = [""] * len(prompts), set()
    for limits in (
        GenerationConfig(max_new_tokens=3, stop=[]),
        GenerationConfig(max_new_tokens=40, stop=["。", "1"]),
    ):
        remote, own = EndpointDecoder(endpoint(served.url, lm), limits, False), Decoder(lm, limits)
        found = {index: text.finish_reason for index, text in remote.texts(prompts, seeds)}
        tokens = dict(own.tokens(prompts, seeds))
        assert found == {index: own.endings.finish_reason(ids) for index, ids in tokens.items()}
        reasons |= set(found.values())
    assert reasons == {"stop", "length"}


def test_failed_requests_are_sent_again_and_refused_ones_are_not(spoiled, lm, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server = spoiled(fails=first(503, 429, 500))
    assert endpoint(server.url, lm, retries=3).endpoint.complete([5], max_tokens=1)["choices"]
    assert len(server.seen) == 4
    for statuses, count in (([413], 1), ([503] * 3, 3)):
        server = spoiled(fails=first(*statuses))
        with pytest.raises(EndpointError, match=f"status {statuses[0]}: not now"):
            endpoint(server.url, lm, retries=2).endpoint.complete([5], max_tokens=1)
        assert len(server.seen) == count


def texts_only(body) -> int | None:
    """Fails as llama-cpp-python's server does."""
    return 500 if not isinstance(body.get("prompt", ""), str) else None


def test_an_endpoint_that_takes_texts_only_is_not_scored_by_likelihood(spoiled, lm, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server = spoiled(fails=texts_only)
    with pytest.raises(EndpointError, match="seems not to take token ids") as error:
        endpoint(server.url, lm, retries=20, concurrency=1).loglikelihoods(lm.encode_pairs(PAIRS))
    assert "can't be scored by likelihood" in str(error.value) and len(server.seen) == 5


def test_an_endpoint_that_takes_texts_only_continues_texts(spoiled, lm, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server, limits = spoiled(fails=texts_only), GenerationConfig(max_new_tokens=12, stop=["。"])
    prompts = lm.encode([context for context, _ in PAIRS if context])
    seeds = [""] * len(prompts)
    remote = endpoint(server.url, lm, retries=3, concurrency=1)
    answers = dict(EndpointDecoder(remote, limits, False).stream(prompts, seeds))
    assert answers == dict(Decoder(lm, limits).stream(prompts, seeds))
    assert sum(isinstance(body["prompt"], list) for body in server.seen) == 3


def test_texts_of_which_an_endpoint_makes_other_tokens_are_not_continued(spoiled, lm, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)

    def with_space(path: str, body: dict) -> dict:
        return {**body, "prompt": " " + body["prompt"]}

    decoder = EndpointDecoder(
        endpoint(spoiled(change=with_space, fails=texts_only).url, lm), GenerationConfig(), False
    )
    with pytest.raises(EndpointError, match="another tokenizer or beginning token"):
        list(decoder.stream(lm.encode(["1 + 1 ="]), [""]))


def test_tokens_that_no_text_has_are_not_sent_as_a_text(spoiled, lm, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    decoder = EndpointDecoder(endpoint(spoiled(fails=texts_only).url, lm), GenerationConfig(), False)
    with pytest.raises(EndpointError, match="has other tokens than the prompt"):
        list(decoder.stream([[*lm.encode(["a"])[0], 100, 100, 100, 200]], [""]))


@pytest.mark.parametrize("status", [404, 500])
def test_a_named_model_is_asked_where_there_is_no_list_of_models(lm, served, status):
    server = JsonServer(
        lambda path, body: (status, {"detail": "none"}) if body is None else ask(served.port, path, body)
    )
    try:
        assert endpoint(server.url, lm, model="base").endpoint.complete([5], max_tokens=1)["choices"]
        with pytest.raises(EndpointError, match=str(status)):
            endpoint(server.url, lm, retries=0)
    finally:
        server.stop()
    with pytest.raises(EndpointError, match="ConnectionRefusedError"):
        endpoint(server.url, lm, model="base", retries=0)


def test_an_endpoint_that_fails_at_first_is_asked_again(spoiled, lm, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server = spoiled(fails=first(503, 503, 503))
    limits = GenerationConfig(max_new_tokens=4, stop=[])
    answers = dict(
        EndpointDecoder(endpoint(server.url, lm, retries=3), limits, False).stream([[5, 6]], ["x"])
    )
    assert answers == dict(Decoder(lm, limits).stream([[5, 6]], ["x"])) and len(server.seen) == 5


def test_texts_that_fill_the_context_are_scored(served, lm):
    remote = endpoint(served.url, lm)
    tokens = tuple(range(20, 20 + remote.max_length + 1))
    assert len(tokens) == lm.max_length - 1
    request = TokenRequest(tokens, len(tokens) - 8)
    (likelihood,), (expected,) = remote.loglikelihoods([request]), lm.loglikelihoods([request])
    assert abs(likelihood.loglikelihood - expected.loglikelihood) < 1e-4


def test_a_shorter_length_of_the_configuration_is_that_of_the_weights(served, lm):
    model = EndpointModel(served.url, EndpointConfig())
    for length in (100, lm.max_length - 2):
        assert EndpointLM(model, lm.tokenizer, EvaluateConfig(max_length=length)).max_length == length
    whole = EvaluateConfig(max_length=lm.max_length)
    assert EndpointLM(model, lm.tokenizer, whole).max_length == lm.max_length - 2


def test_a_redirect_is_not_followed(spoiled, lm):
    with pytest.raises(EndpointError, match="redirects"):
        endpoint(spoiled(fails=first(307)).url, lm, retries=3).endpoint.complete([5], max_tokens=1)


def test_the_key_is_sent_and_never_shown(spoiled, lm, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server = spoiled(fails=first(401))
    remote = endpoint(server.url, lm)
    with pytest.raises(EndpointError) as error:
        remote.endpoint.complete([5], max_tokens=1)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}" and KEY not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "127.0.0.1:8000",
        "http://",
        "http://a:b@127.0.0.1",
        "http://127.0.0.1/v1?key=x",
        "http://8.8.8.8/v1",
        "http://127.0.0.1:99999",
        "http://[abc",
        "http://[abc]",
        "http://127.0.0.1/模型",
        "http://127.0.0.1/a b/v1",
    ],
)
def test_an_address_that_would_lose_secrets_or_is_none_is_refused(url):
    with pytest.raises(ConfigError, match=r"model\.endpoint"):
        checked_url(url, plain_http=False)


def test_addresses_get_a_version_unless_they_have_a_path():
    assert checked_url("http://localhost:1", False).geturl() == "http://localhost:1/v1"
    assert checked_url("https://models.example/api/v2/", False).geturl() == "https://models.example/api/v2"
    assert checked_url("http://8.8.8.8", True).geturl() == "http://8.8.8.8/v1"


def test_an_unknown_model_is_named(served, lm):
    with pytest.raises(EndpointError, match="no model 'other'"):
        endpoint(served.url, lm, model="other")


def test_an_endpoint_that_is_not_there_is_named(lm):
    with pytest.raises(EndpointError, match="ConnectionRefusedError"):
        endpoint("http://127.0.0.1:9", lm)


def test_no_task_begins_after_one_failed():
    begun = []

    def task(number: int):
        def run() -> int:
            begun.append(number)
            if number == 2:
                raise ValueError
            return number

        return run

    with pytest.raises(ValueError):
        list(at_once([task(number) for number in range(100)], 2))
    assert len(begun) < 10


@pytest.mark.filterwarnings("ignore")
def test_tasks_of_the_harness_have_the_texts_of_the_weights(served, lm):
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    from workbench.evaluation.harness.model import HarnessLM

    options = {"until": ["。"], "max_gen_toks": 12, "do_sample": False}
    requests = [
        instance("generate_until", {}, (context, options), index, metadata=("task", index, 1))
        for index, context in enumerate(("1 + 1 =", "小军说早上好。", ""))
    ]
    texts = HarnessLM(endpoint(served.url, lm)).generate_until(requests)
    assert texts == HarnessLM(lm).generate_until(requests) and any(texts)


def test_thoughts_are_closed_at_their_budget_by_two_requests(spoiled, lm):
    server, limits = spoiled(), GenerationConfig(max_new_tokens=9, stop=["。"])
    contexts = [f"{context}<think>" for context, _ in PAIRS if context] + ["The capital of France is"]
    prompts = [Prompt(text, ids) for text, ids in zip(contexts, lm.encode(contexts), strict=True)]
    seeds, remote = [""] * len(prompts), endpoint(server.url, lm)
    found = dict(ThinkingDecoder(EndpointDecoder(remote, limits, False), 5).texts(prompts, seeds))
    assert found == dict(ThinkingDecoder(Decoder(lm, limits), 5).texts(prompts, seeds))
    num_cut, num_sent = sum(bool(text.thought_cut) for text in found.values()), len(prompts) - 1
    assert num_cut > num_sent / 2 and found[num_sent].thought_cut is False
    sent = [body["max_tokens"] for body in server.seen]
    num_opening = len(lm.tokenizer("<think>", add_special_tokens=False)["input_ids"]) + 2
    assert sorted(set(sent)) == [5, num_opening, 9] and sent.count(num_opening) == 1
    assert sent.count(5) == num_sent and sent.count(9) == num_cut + 1
