"""Models with a sliding window share prefixes of texts within the window, and score and answer as without."""

import pytest
import torch
from test_transformers_lm import lm, one_by_one, random_requests
from transformers import (
    GPTNeoConfig,
    GPTNeoForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM

WINDOW = 64
FIELDS = dict(
    vocab_size=400,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    initializer_range=0.3,
    sliding_window=WINDOW,
)


def references():
    """Models of transformers' own classes."""
    torch.manual_seed(0)
    mistral = MistralForCausalLM(MistralConfig(**FIELDS))
    qwen = Qwen2ForCausalLM(Qwen2Config(**FIELDS, use_sliding_window=True, max_window_layers=1))
    return {"mistral": mistral.eval(), "qwen2": qwen.eval()}


REFERENCES = references()


@pytest.fixture(params=["mistral", "qwen2"])
def reference(request):
    return REFERENCES[request.param]


@pytest.fixture(params=["open-llama", "native"])
def model(request, reference):
    if request.param == "native":
        return reference
    made = OpenLlamaForCausalLM(OpenLlamaConfig.from_dict(reference.config.to_dict()))
    made.load_state_dict(reference.state_dict())
    return made.eval()


@pytest.mark.parametrize(
    "settings", [{"batch_tokens": 40}, {"batch_tokens": 4096}, {"invariant": True}], ids=str
)
def test_scores_of_texts_within_and_beyond_the_window_are_one_by_one_scores(
    reference, model, tokenizer, settings
):
    requests = random_requests(2)
    engine = lm(model, tokenizer, **settings)
    assert engine.shares_prefixes
    lengths = [len(request.tokens) - 1 for request in requests]
    assert min(lengths) < WINDOW < max(lengths)
    for request, found in zip(requests, engine.loglikelihoods(requests), strict=True):
        assert found.loglikelihood == pytest.approx(one_by_one(reference, request)[0], abs=1e-4)
    for request in requests[:8]:
        [found] = engine.alone([request], min(40, request.first - 1))
        assert found.loglikelihood == pytest.approx(one_by_one(reference, request)[0], abs=1e-4)


def test_texts_share_prefixes_up_to_the_windows_length(model, tokenizer):
    engine = lm(model, tokenizer)
    prefix = tuple(range(40))
    for length, computed in ((WINDOW, 40 + 2 * (WINDOW - 40)), (WINDOW + 1, 2 * (WINDOW + 1))):
        texts = [(*prefix, *range(start, start + length - 40), 0) for start in (100, 200)]
        engine.computed_tokens = 0
        engine.loglikelihoods([TokenRequest(text, 1) for text in texts])
        assert engine.computed_tokens == computed


def test_answers_across_the_windows_end_are_those_of_generate(reference, model, tokenizer):
    engine = lm(model, tokenizer)
    generator = torch.Generator().manual_seed(0)
    lengths = (
        30,
        WINDOW - 19,
        WINDOW - 18,
        WINDOW,
        90,
    )  # with 19 new tokens as inputs, two are within the window
    prompts = [
        [*range(20), *torch.randint(400, (length - 20,), generator=generator).tolist()]
        for length in lengths
        for _ in range(3)
    ]
    limits = GenerationConfig(max_new_tokens=20, stop=[])
    answers = dict(Decoder(engine, limits).tokens(prompts, [""] * len(prompts)))
    own = 3 * sum(length - 20 for length in lengths[:2])
    # A first pass has one prompt, a second one the others that are within the window.
    assert engine.computed_tokens == 2 * 20 + own + 9 * 90
    for index, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        options = dict(max_new_tokens=len(answers[index]), do_sample=False, eos_token_id=None)
        expected = reference.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert answers[index] == expected[0, len(prompt) :].tolist()


def test_a_window_that_is_counted_by_places_in_the_pass_shares_no_prefixes(tokenizer):
    torch.manual_seed(0)
    sizes = dict(vocab_size=400, hidden_size=32, num_layers=1, num_heads=4, max_position_embeddings=512)
    neo = GPTNeoForCausalLM(
        GPTNeoConfig(**sizes, attention_types=[[["local"], 1]], window_size=128, initializer_range=0.3)
    ).eval()
    prefix = tuple(range(60))
    texts = [(*prefix, *range(start, start + 60)) for start in (60, 120, 180)]
    requests = [TokenRequest(text, len(prefix)) for text in texts]
    for request, found in zip(requests, lm(neo, tokenizer).loglikelihoods(requests), strict=True):
        assert found.loglikelihood == pytest.approx(one_by_one(neo, request)[0], abs=1e-4)


def test_the_chunks_of_llama_4_are_a_window(tokenizer):
    sizes = dict(FIELDS, num_local_experts=2, head_dim=8, intermediate_size_mlp=32)
    config = Llama4TextConfig(**sizes, attention_chunk_size=48)
    engine = lm(Llama4ForCausalLM(config).eval(), tokenizer)
    assert engine.fits_window(48) and not engine.fits_window(49)
