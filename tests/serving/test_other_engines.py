"""Endpoints in the formats of vLLM and SGLang are scored if they pass the probe, and else refused by name."""

import itertools
import logging

import pytest
import torch
from json_server import JsonServer, ask
from other_engines import late, sglang, vllm
from serving_client import OneModel, Served, language_model

import workbench as wb
from workbench.config import EndpointConfig, EvaluateConfig
from workbench.config.data import DataConfig
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.endpoint.replies import UnsuitableError
from workbench.evaluation.endpoint.scorers import PromptLogprobs, SglangGenerate, TokenScores
from workbench.shipped import PACKAGE

PAIRS = [
    (context, continuation)
    for context in ("1 + 1 =", "小军说早上好。", "The capital of France is")
    for continuation in (" 2", "。好", " Paris 🐼")
]
ENGINES = {"prompt_logprobs": vllm, "/generate": sglang}


@pytest.fixture(params=ENGINES)
def interface(request):
    return request.param


@pytest.fixture
def start(lm, interface):
    """Starts an engine that has the interface."""
    servers = []

    def start(**options):
        servers.append(ENGINES[interface](lm, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def endpoint(url: str, lm, **settings) -> EndpointLM:
    return EndpointLM(
        EndpointModel(url, EndpointConfig(retries=0, **settings)), lm.tokenizer, EvaluateConfig()
    )


def test_log_likelihoods_are_those_of_the_weights(start, lm, interface, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")
    requests = lm.encode_pairs(PAIRS)
    likelihoods = endpoint(start().url, lm).loglikelihoods(requests)
    for likelihood, expected in zip(likelihoods, lm.loglikelihoods(requests), strict=True):
        assert abs(likelihood.loglikelihood - expected.loglikelihood) < 1e-4
        assert (likelihood.num_tokens, likelihood.greedy) == (expected.num_tokens, expected.greedy)
    assert f"has log-probabilities of prompts, by {interface}" in caplog.text


def test_values_of_the_token_before_are_refused_before_an_item_is_scored(start, lm, interface):
    server, requests = start(spoil=late), lm.encode_pairs(PAIRS)
    with pytest.raises(EndpointError, match=f"{interface}: is not consistent with itself") as error:
        endpoint(server.url, lm).loglikelihoods(requests)
    assert "can't be scored by likelihood" in str(error.value) and "\n" not in str(error.value)
    scored = {request.tokens for request in requests}
    assert not any(tuple(body.get("prompt") or body["input_ids"]) in scored for body in server.seen)


def test_a_beginning_token_that_is_added_to_token_ids_is_refused(start, lm, interface):
    reasons = {"prompt_logprobs": "of 19 tokens where 18 were sent", "/generate": "of other tokens"}
    with pytest.raises(EndpointError, match=reasons[interface]):
        endpoint(start(added=(1,)).url, lm).loglikelihoods(lm.encode_pairs(PAIRS))


def test_generate_is_not_asked_where_the_endpoint_has_several_models(lm):
    server = sglang(lm, names=("base", "adapter"))
    try:
        with pytest.raises(EndpointError, match="can't be scored by likelihood"):
            endpoint(server.url, lm, model="adapter").loglikelihoods(lm.encode_pairs(PAIRS))
    finally:
        server.stop()
    assert "/generate" not in server.paths


ODD = {"decoded_token": None, "rank": None}
ODD_ENTRIES = [
    None,
    [],
    {},
    {"x": 1},
    {"5": None},
    {"5": -1.0},
    {"5": {}},
    {"5": {"logprob": None}},
    {"5": {"logprob": "-1.0"}},
    {"5": {"logprob": 1.0}},
    {"5": {"logprob": True}},
    {"5": {"logprob": float("nan")}},
    {"5": {"logprob": float("-inf")}},
    {"6": {"logprob": -1.0}},
]


def scored(entry) -> TokenScores:
    reply = {"choices": [{"prompt_logprobs": [None, entry]}]}
    return PromptLogprobs(lambda *_, **__: reply, lambda _: None, "here").score([4, 5], 1)


@pytest.mark.parametrize("entry", ODD_ENTRIES, ids=str)
def test_odd_prompt_logprobs_are_refused(entry):
    with pytest.raises(UnsuitableError, match="has no prompt_logprobs of a token that was sent"):
        scored(entry)


def test_an_odd_alternative_beside_the_token_is_not_its_best():
    for other in (None, "0", float("nan"), float("inf"), True, 5.0, [], {}):
        scores = scored({"7": {"logprob": other, **ODD}, "5": {"logprob": -1, **ODD}, "8": other})
        assert (scores.values, scores.best, scores.greedy) == ([-1], [-1], True)
    assert not scored({"7": {"logprob": -0.5}, "5": {"logprob": -1}}).greedy


@pytest.mark.parametrize(
    "top", [None, [], [[None, 7, None]], [["-1", 7, None]], [[float("nan"), 7, None]]], ids=str
)
def test_odd_alternatives_of_generate_are_not_the_best(top):
    facts = {"input_token_logprobs": [[None, 4, None], [-1.0, 5, None]], "input_top_logprobs": [None, top]}
    scores = SglangGenerate(lambda *_: {"meta_info": facts}, "here").score([4, 5], 1)
    assert (scores.values, scores.best, scores.greedy) == ([-1.0], [None], False)


def test_servers_behind_one_name_of_which_one_has_other_weights_are_refused(served, lm):
    other, tokenizer = wb.load_model(PACKAGE / "toy" / "base", dtype="float32")
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(0.7)
    second = Served(OneModel(language_model(other, tokenizer)), {"base": lm.max_length}, DataConfig())
    turns = itertools.cycle([served.port, second.port])
    both = JsonServer(lambda path, body: ask(next(turns), path, body))
    try:
        with pytest.raises(EndpointError, match="is not consistent with itself"):
            endpoint(both.url, lm).loglikelihoods(lm.encode_pairs(PAIRS))
    finally:
        both.stop()
        second.stop()
