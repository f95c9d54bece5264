"""Trials find out up to which length texts can share prefixes, and a no is said once with the reason."""

import pytest
import torch
from causal_kinds import kind
from relatives import relative
from test_causal_kinds import alone
from test_packing_trials import exact_or, planted
from tiny_checkpoints import words_tokenizer

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.inference import prefix_probe
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.log_once import log_once

WINDOW = 64


def lm(model, **settings):
    return TransformersLM(model, words_tokenizer(), EvaluateConfig(max_length=200, **settings))


def requests(lengths):
    generator = torch.Generator().manual_seed(1)
    start = torch.randint(3, 96, (12,), generator=generator).tolist()
    return [
        TokenRequest((*start, *torch.randint(3, 96, (length - 11,), generator=generator).tolist()), 12)
        for length in lengths
        for _ in range(2)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("options", "shares"),
    [({}, True), ({"cap": 30.0}, False), ({"cap": 50.0}, False), ({"num_sinks": 1}, False)],
    ids=str,
)
def test_a_cap_or_a_sink_that_branches_alone_get_is_noticed(options, shares, dtype):
    model = planted(exact_or(**options), max_position_embeddings=256).to(dtype)
    assert lm(model).shares_prefixes is shares


@pytest.mark.parametrize("name", ["falcon_h1", "qwen3_5", "mamba"])
def test_a_hybrid_cache_is_a_no_that_is_said_once(name, caplog):
    log_once.cache_clear()
    with caplog.at_level("INFO"):
        engines = [lm(kind(name)) for _ in range(2)]
    assert not any(engine.shares_prefixes for engine in engines)
    [line] = [record.message for record in caplog.records if "shared prefixes" in record.message]
    assert line.startswith(
        "shared prefixes are computed again for every text, which takes more time (the trial"
    )


@pytest.mark.parametrize("longest", [WINDOW - 2, WINDOW - 1, WINDOW])
def test_texts_share_prefixes_up_to_the_length_at_which_branches_begin_to_differ(
    longest, monkeypatch, caplog
):
    log_once.cache_clear()
    caplog.set_level("INFO")
    right = TransformersLM._mask

    def leaking(self, tree, step):
        mask = right(self, tree, step)
        depth = max(tree.depths[node] for node in step.nodes)
        return mask if mask is None or depth < longest else torch.ones_like(mask).tril(step.num_cached)

    monkeypatch.setattr(TransformersLM, "_mask", leaking)
    model = relative("mistral, window", sliding_window=WINDOW, max_position_embeddings=256)
    engine = lm(model)
    assert engine.shares_prefixes
    texts = requests((30, WINDOW - 2, WINDOW - 1, WINDOW, WINDOW + 1))
    scores = [score.loglikelihood for score in engine.loglikelihoods(texts)]
    expected = [alone(model, text) for text in texts]
    torch.testing.assert_close(torch.tensor(scores), torch.tensor(expected), rtol=0, atol=1e-4)
    assert [engine.can_share(length) for length in (longest, longest + 1)] == [True, False]
    said = f"for each text of more than {longest} tokens" in caplog.text
    assert said is (longest < WINDOW)  # beyond the window no text shares prefixes, without a trial


def test_short_texts_start_no_trials_of_long_ones(monkeypatch):
    tried = []
    error = prefix_probe._error
    monkeypatch.setattr(prefix_probe, "_error", lambda *args: tried.append(args[1]) or error(*args))
    engine = lm(relative("mistral, window", sliding_window=WINDOW, max_position_embeddings=256))
    engine.loglikelihoods(requests((30, WINDOW - 2)))
    assert tried == [2, 2, 12, 12, 48, 48]
    engine.loglikelihoods(requests((30, WINDOW + 5, WINDOW)))
    assert tried[6:] == [WINDOW - 1, WINDOW - 1, WINDOW, WINDOW]


def test_a_kernel_without_masks_of_trees_is_named_with_what_it_costs(caplog):
    log_once.cache_clear()
    model = planted(exact_or(), max_position_embeddings=256)
    caplog.set_level("INFO")
    model.config._attn_implementation_internal = "flash_attention_2"  # a CPU has no such kernel
    engine = lm(model)
    model.config._attn_implementation_internal = "sdpa"
    texts = requests((20, 20))
    scores = [score.loglikelihood for score in engine.loglikelihoods(texts)]
    engine.loglikelihoods(texts)
    assert scores == pytest.approx([alone(model, text) for text in texts], abs=1e-4)
    said = [record.message for record in caplog.records]
    assert said[0].endswith("(flash_attention_2 has no masks for them; model.attention=sdpa has)")
    apart, shared = sum(len(text.tokens) - 1 for text in texts), 12 + 4 * (20 - 12)
    assert len(said) == 2 and f"{apart} tokens of 4 texts are computed instead of {shared} " in said[1]
