"""Log-probabilities of the server are those that the evaluate step records, token by token."""

import numpy as np
import pytest
import torch
from serving_client import OneModel, language_model
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from workbench.evaluation.inference.logprobs import logprobs
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.inference.token_scores import _scores as scores_of
from workbench.evaluation.inference.token_scores import token_scores
from workbench.evaluation.inference.token_texts import TokenTexts

TEXTS = ["1 + 1 = 2。小军说早上好。", "饕餮🐼 and a panda", "The capital of France is", "x"]


def by_hand(lm, tokens: list[int]) -> np.ndarray:
    """Log-probabilities (T - 1, vocabulary) in float64, from one pass of the model alone."""
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([tokens])).logits[0].double().numpy()
    shifted = logits - logits.max(-1, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))[:-1]


def nop() -> None:
    pass


def test_scores_of_a_large_vocabulary_are_as_exact_as_the_evaluate_steps():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(64, 50_000, generator=generator)
    targets = torch.randint(50_000, (64,), generator=generator).tolist()
    exact = logits.double().log_softmax(-1)[range(64), targets].tolist()
    scores = scores_of(logits, targets, 2, 65)
    assert abs(sum(score.logprob for score in scores) - sum(exact)) < 2e-5
    assert [score.logprob for score in scores] == [
        value for value, _ in logprobs(logits, list(range(64)), targets)
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_echo_has_each_token_with_its_own_log_probability(served, lm, text):
    (choice,) = served.complete(text, max_tokens=1, logprobs=3, echo=True)["choices"]
    tokens, found = lm.encode([text])[0], choice["logprobs"]
    expected = by_hand(lm, [*tokens, 0])
    assert len(found["tokens"]) == len(tokens) + 1 and found["token_logprobs"][0] is None
    scored = [expected[index - 1][token] for index, token in enumerate(tokens) if index]
    assert np.allclose(found["token_logprobs"][1:-1], scored, atol=1e-4)
    for row, top, own in zip(expected, found["top_logprobs"][1:], found["token_logprobs"][1:], strict=True):
        assert abs(max(top.values()) - row.max()) < 1e-4
        assert own in top.values()


def test_the_last_entry_of_an_echo_is_the_generated_token(served, lm):
    (choice,) = served.complete("2 + 2 =", max_tokens=1, logprobs=1, echo=True)["choices"]
    expected = by_hand(lm, [*lm.encode(["2 + 2 ="])[0], 0])[-1]
    assert abs(choice["logprobs"]["token_logprobs"][-1] - expected.max()) < 1e-4


def test_summed_over_the_continuation_they_are_the_evaluate_steps_log_likelihood(served, lm):
    pairs = [(context, continuation) for context in TEXTS for continuation in (" 4", "。好", " Paris 🐼")]
    requests = lm.encode_pairs(pairs)
    recorded = lm.loglikelihoods(requests)
    fields = {"max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    answer = served.complete([list(request.tokens) for request in requests], **fields)
    for request, likelihood, choice in zip(requests, recorded, answer["choices"], strict=True):
        values = choice["logprobs"]["token_logprobs"][request.first : -1]
        tops = choice["logprobs"]["top_logprobs"][request.first : -1]
        assert abs(sum(values) - likelihood.loglikelihood) < 1e-4
        is_greedy = all(value == max(top.values()) for value, top in zip(values, tops, strict=True))
        assert is_greedy == likelihood.greedy


def test_generated_tokens_sent_back_with_echo_have_the_same_log_probabilities(served):
    prompt = [1, 77, 300, 12, 20]
    fields = {"logprobs": 1, "return_tokens_as_token_ids": True}
    (first,) = served.complete(prompt, max_tokens=2, **fields)["choices"]
    ids = [int(name.removeprefix("token_id:")) for name in first["logprobs"]["tokens"]]
    assert len(ids) == 2
    (second,) = served.complete([*prompt, *ids], max_tokens=1, echo=True, **fields)["choices"]
    assert second["logprobs"]["token_logprobs"][5:7] == first["logprobs"]["token_logprobs"]
    assert second["logprobs"]["tokens"][:7] == [f"token_id:{token}" for token in [*prompt, *ids]]


def test_a_long_text_in_parts_has_the_scores_of_one_pass(lm):
    tokens = torch.randint(10, 600, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    budget, lm.budget = lm.budget, 7
    try:
        scores = token_scores(lm, tokens, 30, 2, nop)
    finally:
        lm.budget = budget
    expected = by_hand(lm, tokens)
    assert [score.token for score in scores] == tokens[30:]
    assert np.allclose([score.logprob for score in scores], expected[range(29, 99), tokens[30:]], atol=1e-4)
    assert np.allclose([score.top[1][1] for score in scores], np.sort(expected[29:])[:, -2], atol=1e-4)
    (recorded,) = lm.loglikelihoods([TokenRequest(tuple(tokens), 30)])
    assert abs(sum(score.logprob for score in scores) - recorded.loglikelihood) < 1e-3


def test_without_a_cache_the_scores_are_the_same(lm):
    tokens = list(range(20, 60))
    lm.shares_prefixes = False
    try:
        whole = token_scores(lm, tokens, 1, 1, nop)
    finally:
        lm.shares_prefixes = True
    parts = token_scores(lm, tokens, 1, 1, nop)
    assert np.allclose([s.logprob for s in whole], [s.logprob for s in parts], atol=1e-5)


@pytest.mark.parametrize("text", [*TEXTS, " leading and trailing ", "<s>own", "a\n\nb", "€" * 20])
def test_offsets_lead_to_each_tokens_text(served, text):
    (choice,) = served.complete(text, max_tokens=3, logprobs=0, echo=True)["choices"]
    found = choice["logprobs"]
    assert found["top_logprobs"] is None
    assert choice["text"].startswith(text)
    for name, offset in zip(found["tokens"][1:], found["text_offset"][1:], strict=True):
        if not name.startswith("token_id:") and offset < len(choice["text"]):
            assert choice["text"][offset:].startswith(name)


def test_parts_of_tokens_are_the_whole_text(lm):
    texts = TokenTexts(lm.tokenizer)
    for text in TEXTS:
        tokens = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert "".join(texts.parts(tokens)) == text
        for first in range(1, len(tokens)):
            assert "".join(texts.parts(tokens, first)) == "".join(texts.parts(tokens)[first:])


def test_token_ids_outside_the_vocabulary_are_refused(served, lm):
    for token in (-1, lm.vocabulary, 2**70):
        status, answer = served.ask("/v1/completions", {"model": "base", "prompt": [1, token]})
        assert status == 400 and "token id" in answer["error"]["message"]


def test_a_space_that_decoding_drops_from_a_beginning_belongs_to_its_token():
    words = {"<unk>": 0, "▁the": 1, "▁cat": 2, "s": 3, "▁a": 4}
    backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    texts = TokenTexts(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert texts.parts([1, 2, 3, 2]) == ["the", " cat", "s", " cat"]
    assert [texts.name(token) for token in (1, 2, 3)] == [" the", " cat", "s"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"n": 1}, 200),
        ({"n": 2}, 400),
        ({"max_tokens": 2}, 400),
        ({"logprobs": 2}, 400),
        ({"echo": False}, 200),
        ({"echo": False, "n": 8, "max_tokens": 4}, 400),
    ],
)
def test_more_log_probabilities_than_an_answer_may_have_are_refused(served, monkeypatch, fields, status):
    monkeypatch.setattr("workbench.serving.answering.MOST_LOGPROBS", 2 * (30 + 1))
    body = {"model": "base", "prompt": [[7] * 30], "max_tokens": 1, "echo": True, "logprobs": 1, **fields}
    assert served.ask("/v1/completions", body)[0] == status


@pytest.fixture
def spaced(lm, serve):
    """A server of the toy model whose tokenizer drops the space before the first token, as LLaMA's does."""
    words = {"<s>": 0, "</s>": 1, "▁the": 2, "▁": 3, **{f"▁w{number}": number for number in range(4, 800)}}
    backend = Tokenizer(WordLevel(words, unk_token="▁"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    return serve(OneModel(language_model(lm.model, tokenizer)))


def test_echo_keeps_the_space_that_decoding_drops_before_an_answer(spaced):
    prompt = "the w7 w9"
    answer = spaced.complete(prompt, max_tokens=4)["choices"][0]["text"]
    assert answer and not answer.startswith(" ")
    echo = spaced.complete(prompt, max_tokens=4, echo=True, logprobs=0)["choices"][0]
    assert echo["text"] == f"{prompt} {answer}"
    events = spaced.stream(
        "/v1/completions", {"model": "base", "prompt": prompt, "max_tokens": 4, "echo": True}
    )
    assert "".join(event["choices"][0]["text"] for event in events) == echo["text"]
    for scored in (echo, spaced.complete(prompt, max_tokens=4, logprobs=0)["choices"][0]):
        fields = scored["logprobs"]
        for offset, token in zip(fields["text_offset"][1:], fields["tokens"][1:], strict=True):
            assert scored["text"][offset:].startswith(token)
