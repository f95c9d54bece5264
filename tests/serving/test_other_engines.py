"""Endpoints in the formats of vLLM and SGLang are scored if they pass the probe, and else refused by name."""

import logging

import pytest
from other_engines import late, sglang, vllm

from workbench.config import EndpointConfig, EvaluateConfig
from workbench.errors import EndpointError
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.endpoint.endpoint_model import EndpointModel

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
