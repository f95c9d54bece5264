"""With rope types that depend on a text's length, every text is scored as if it were alone in a new model."""

import copy

import pytest
import torch
from tiny_llama import make_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.inference.rope_lengths import RopeLengths
from workbench.evaluation.inference.token_scores import token_scores
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM

THRESHOLD = 64
SIZES = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
OFF = {
    "use_stable_embedding": False,
    "shared_input_output_embedding": False,
    "hidden_dropout_prob": 0.0,
    "attention_dropout_prob": 0.0,
}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [2.0, 3.0, 4.0, 6.0],
    "original_max_position_embeddings": THRESHOLD,
    "factor": 4.0,
    "rope_theta": 10000.0,
}


def long_sizes() -> dict:
    return SIZES | {"rope_parameters": dict(LONG), "max_position_embeddings": 4 * THRESHOLD}


def dynamic_sizes() -> dict:
    return SIZES | {"rope_parameters": dict(DYNAMIC), "max_position_embeddings": THRESHOLD}


MODELS = {
    "longrope, phi3": lambda: Phi3ForCausalLM(
        Phi3Config(**long_sizes(), original_max_position_embeddings=THRESHOLD)
    ),
    "longrope, llama": lambda: LlamaForCausalLM(LlamaConfig(**long_sizes())),
    "longrope, open-llama": lambda: OpenLlamaForCausalLM(OpenLlamaConfig(**long_sizes(), **OFF)),
    "dynamic, llama": lambda: LlamaForCausalLM(LlamaConfig(**dynamic_sizes())),
    "dynamic, open-llama": lambda: OpenLlamaForCausalLM(OpenLlamaConfig(**dynamic_sizes(), **OFF)),
}


def model(name: str):
    torch.manual_seed(0)
    made = MODELS[name]()
    for weight_name, weight in made.named_parameters():
        weight.data.normal_(0, 0.3).add_(1.0 if "norm" in weight_name else 0.0)
    return made.eval()


def requests() -> list[TokenRequest]:
    """Texts with a common beginning, from half of the threshold to twice of it, and right at it."""
    draw = torch.Generator().manual_seed(1)
    start = torch.randint(3, 96, (20,), generator=draw).tolist()
    lengths = (32, 62, 63, 64, 65, 66, 67, 90, 90, 128)  # of the inputs: one less
    return [
        TokenRequest((*start, *torch.randint(3, 96, (length - 20,), generator=draw).tolist()), 20)
        for length in lengths
        for _ in range(2)
    ]


@torch.no_grad()
def alone(untouched, request: TokenRequest) -> float:
    """The log-likelihood that a model which has seen no other text gives."""
    logprobs = copy.deepcopy(untouched)(torch.tensor([request.tokens[:-1]])).logits[0].log_softmax(-1)
    return sum(float(logprobs[i - 1, request.tokens[i]]) for i in range(request.first, len(request.tokens)))


@pytest.mark.parametrize("name", MODELS)
def test_scores_across_the_threshold_are_those_of_each_text_alone_with_any_budget(name):
    untouched = model(name)
    expected = torch.tensor([alone(untouched, request) for request in requests()])
    for settings in (
        {"batch_tokens": 16},
        {"batch_tokens": 300},
        {"batch_tokens": 4096},
        {"invariant": True},
    ):
        lm = TransformersLM(
            copy.deepcopy(untouched), make_tokenizer(), EvaluateConfig(max_length=4 * THRESHOLD, **settings)
        )
        assert lm.rope.longest_unchanged == THRESHOLD
        assert lm.shares_prefixes
        for _ in range(2):  # the second time after long texts
            scores = torch.tensor([one.loglikelihood for one in lm.loglikelihoods(requests())])
            torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_to_a_long_prompt_is_the_same_beside_other_prompts(name):
    untouched = model(name)
    prompts = [list(request.tokens) for request in requests()[::3]]
    limits = GenerationConfig(max_new_tokens=4)

    def answers(prompts):
        lm = TransformersLM(
            copy.deepcopy(untouched), make_tokenizer(), EvaluateConfig(max_length=4 * THRESHOLD)
        )
        return dict(Decoder(lm, limits).tokens(prompts, [str(i) for i in range(len(prompts))]))

    together = answers(prompts)
    for index, prompt in enumerate(prompts):
        assert answers([prompt])[0] == together[index]


@torch.no_grad()
def continued(untouched, prompt: list[int], count: int) -> list[int]:
    """The most likely tokens after a prompt: longrope computes all tokens anew, dynamic keeps its cache."""
    if untouched.config.rope_parameters["rope_type"] == "dynamic":
        reference = as_llama(untouched)
        options = dict(max_new_tokens=count, do_sample=False, eos_token_id=None)
        ids = torch.tensor([prompt])
        answer = reference.generate(ids, attention_mask=torch.ones_like(ids), **options)
        return answer[0, len(prompt) :].tolist()
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(copy.deepcopy(untouched)(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def as_llama(made):
    """A new model of transformers' class with the same weights."""
    reference = LlamaForCausalLM(LlamaConfig(**dynamic_sizes()))
    reference.load_state_dict(made.state_dict())
    return reference.eval()


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_answers_across_the_threshold_have_the_frequencies_of_their_own_length(name, shared_prefix):
    untouched, count = model(name), 12
    untouched.lm_head.weight.data[:3] = 0  # no answer ends early
    generator = torch.Generator().manual_seed(3)
    lengths = (THRESHOLD - 12, THRESHOLD - 11, THRESHOLD - 10, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 90)
    prompts = [torch.randint(3, 96, (length,), generator=generator).tolist() for length in lengths]
    evaluate = EvaluateConfig(max_length=4 * THRESHOLD, shared_prefix=shared_prefix)
    lm = TransformersLM(copy.deepcopy(untouched), make_tokenizer(), evaluate)
    decoder = Decoder(lm, GenerationConfig(max_new_tokens=count, stop=[]))
    answers = dict(decoder.tokens(prompts, [""] * len(prompts)))
    for index, prompt in enumerate(prompts):
        assert answers[index] == continued(untouched, prompt, count)


def test_the_rope_of_each_type_of_layers_is_read():
    config = LlamaConfig(**dynamic_sizes())
    made = LlamaForCausalLM(config)
    made.config.rope_parameters = {"full_attention": DYNAMIC, "sliding_attention": {"rope_type": "default"}}
    assert RopeLengths(made).longest_unchanged == THRESHOLD


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_of_tokens_are_those_of_each_text_alone_whatever_was_scored_before(name):
    lm = TransformersLM(model(name), make_tokenizer(), EvaluateConfig())
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(5, 90, (length,), generator=generator).tolist() for length in (30, 100, 80, 40)]
    for tokens in texts:
        scores = token_scores(lm, tokens, 1, 1, lambda: None)
        with torch.no_grad():
            logprobs = model(name)(input_ids=torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
        expected = logprobs[range(len(tokens) - 1), tokens[1:]]
        assert torch.allclose(torch.tensor([score.logprob for score in scores]), expected, atol=1e-4)
