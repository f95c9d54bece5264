"""Scoring, classifying and decoding go on with fewer tokens at a time when memory runs out."""

import logging

import pytest
import torch
from test_transformers_lm import lm, random_requests

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import DeviceError
from workbench.evaluation.inference.classifier import TransformersClassifier
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.decoding import slot_decoding
from workbench.evaluation.inference.decoding.within_memory import tokens_within_memory
from workbench.evaluation.inference.prefix_tree import TokenRequest

ERRORS = [
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cublasLt ran into an error!\n\tshapeA=torch.Size([64, 64])"),
    RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
]


@pytest.fixture
def limit(monkeypatch):
    """Let a model raise an error in each call with more tokens than a number; return the refused calls."""

    def set_limit(model, num_tokens, error=ERRORS[0], cached=False):
        whole, refused = model.forward, []

        def forward(*args, **kwargs):
            ids, past = kwargs["input_ids"], kwargs.get("past_key_values")
            size = ids.numel()
            if cached and past is not None:
                size += len(ids) * past.get_seq_length()
            if size > num_tokens:
                refused.append(size)
                raise error
            return whole(*args, **kwargs)

        monkeypatch.setattr(model, "forward", forward)
        return refused

    return set_limit


def values(likelihoods):
    return [likelihood.loglikelihood for likelihood in likelihoods]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("shared_prefix", [True, False])
def test_scores_are_the_same_when_memory_runs_out(llama, tokenizer, limit, error, shared_prefix, caplog):
    requests = random_requests(1)
    engine = lm(llama, tokenizer, batch_tokens=4096, shared_prefix=shared_prefix)
    expected = values(lm(llama, tokenizer, shared_prefix=shared_prefix).loglikelihoods(requests))
    refused = limit(llama, 200, error)
    caplog.set_level(logging.WARNING, "workbench")
    assert values(engine.loglikelihoods(requests)) == pytest.approx(expected, abs=1e-4)
    assert refused and engine.budget <= 256
    assert f"{engine.budget} tokens are now computed at once" in caplog.text
    num_refused = len(refused)
    assert values(engine.loglikelihoods(requests)) == pytest.approx(expected, abs=1e-4)
    assert len(refused) == num_refused  # the smaller batches are remembered


def test_an_item_with_a_cached_beginning_is_scored_again_from_the_beginning(llama, tokenizer, limit):
    start = (0, *range(5, 105))
    items = [[TokenRequest((*start, item, choice), 102) for choice in range(9)] for item in range(4)]
    engine = lm(llama, tokenizer, batch_tokens=4096)
    expected = [values(engine.alone(item, len(start))) for item in items]
    engine = lm(llama, tokenizer, batch_tokens=4096)
    refused = limit(llama, 70)
    assert [values(engine.alone(item, len(start))) for item in items] == [
        pytest.approx(each, abs=1e-4) for each in expected
    ]
    assert refused


def test_other_errors_and_texts_that_never_fit_are_not_tried_for_ever(llama, tokenizer, limit):
    requests = random_requests(1)
    engine = lm(llama, tokenizer)
    limit(llama, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        engine.loglikelihoods(requests)
    limit(llama, 0)
    with pytest.raises(
        DeviceError, match="out of memory with 16 tokens at once .*CUBLAS_STATUS_ALLOC_FAILED"
    ):
        engine.loglikelihoods(requests)


def test_what_invariant_computes_together_stays(llama, tokenizer, limit):
    engine = lm(llama, tokenizer, invariant=True)
    limit(llama, 20)
    with pytest.raises(DeviceError, match="out of memory with 512 tokens at once"):
        engine.alone(random_requests(1)[:4], 0)
    assert engine.budget == 512


def decoder(model, tokenizer, **limits):
    return Decoder(lm(model, tokenizer), GenerationConfig(max_new_tokens=6, stop=[], **limits))


def prompts(count, shared):
    return [[0, *range(5, 5 + shared), *range(200 + row, 220 + row)] for row in range(count)]


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_the_same_when_memory_runs_out(llama, tokenizer, limit, shared, temperature, caplog):
    rows = prompts(20, shared)
    seeds = [str(row) for row in range(len(rows))]
    expected = dict(decoder(llama, tokenizer, temperature=temperature).tokens(rows, seeds))
    shrinking = decoder(llama, tokenizer, temperature=temperature)
    refused = limit(llama, 200, cached=True)
    caplog.set_level(logging.WARNING, "workbench")
    assert dict(tokens_within_memory(shrinking, rows, seeds)) == expected
    assert refused and shrinking.most_cached and "the answers are the same" in caplog.text
    num_refused = len(refused)
    assert dict(tokens_within_memory(shrinking, rows, seeds)) == expected
    assert len(refused) == num_refused


def test_a_shared_beginning_that_is_half_cached_is_computed_again(llama, tokenizer, monkeypatch):
    """Memory runs out in the last layer of a batch's first call, which is for the beginning."""
    rows, refused = prompts(4, 40), []
    expected = dict(decoder(llama, tokenizer).tokens(rows, "abcd"))
    shrinking = decoder(llama, tokenizer)
    whole = llama.model.layers[-1].forward

    def forward(*args, **kwargs):
        if not refused:
            refused.append(1)
            raise ERRORS[0]
        return whole(*args, **kwargs)

    monkeypatch.setattr(llama.model.layers[-1], "forward", forward)
    assert dict(tokens_within_memory(shrinking, rows, "abcd")) == expected
    assert refused


def test_a_single_prompt_that_does_not_fit_is_named(llama, tokenizer, limit):
    limit(llama, 10)
    with pytest.raises(DeviceError, match="single prompt, of 27 tokens with its answer"):
        list(tokens_within_memory(decoder(llama, tokenizer), prompts(3, 0), "abc"))


def test_classes_are_the_same_when_memory_runs_out(classifier, tokenizer, limit, caplog):
    texts = ["the cat sat on the mat", "which of these is right?", "a question"] * 7
    expected = dict(TransformersClassifier(classifier, tokenizer, EvaluateConfig()).stream(texts))
    engine = TransformersClassifier(classifier, tokenizer, EvaluateConfig())
    longest = max(map(len, engine.encode(texts)))
    refused = limit(classifier, longest)
    found = dict(engine.stream(texts))
    assert refused and found.keys() == expected.keys()
    for index, logprobs in found.items():
        assert logprobs == pytest.approx(expected[index], abs=1e-4)
    limit(classifier, longest - 1)
    with pytest.raises(DeviceError, match=f"a single text, of {longest} tokens"):
        dict(engine.stream(texts))


def test_the_first_halving_starts_from_the_slots_of_a_step(llama, tokenizer, limit, monkeypatch):
    monkeypatch.setattr(slot_decoding, "SLOTS", 4)
    rows, seeds = prompts(20, 0), [str(row) for row in range(20)]
    shrinking = decoder(llama, tokenizer)
    expected = dict(shrinking.tokens(rows, seeds))
    refused, longest = limit(llama, 70, cached=True), 21 + 6
    assert dict(tokens_within_memory(shrinking, rows, seeds)) == expected
    assert refused and shrinking.most_cached == 4 * longest // 2
