"""Attention in blocks, in models of transformers' own classes: equal to their eager attention, or refused."""

import gc
import weakref

import pytest
import torch
from causal_kinds import KINDS, kind
from torch import nn
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as attention_with_sinks

from workbench.models.ops import cpu_attention
from workbench.models.trials import blocked_attention
from workbench.models.trials.blocked_attention import NAME, blocked, use_blocked_attention

EAGER_ONLY = ("gemma2", "bloom", "gpt_oss", "mamba")
TWO_WIDTHS = ("deepseek_v3", "minicpm3")
WINDOW = 16
LENGTHS = (1, 15, 16, 17, 40, 48, 49, 130)


@pytest.fixture
def in_float32(monkeypatch):
    """Blocks are computed for float32 and short texts too, where PyTorch's kernel would be faster."""
    calls = []

    def takes(query, mask, dropout):
        calls.append(query.shape)
        return dropout == 0 and (mask is None or mask.dtype == torch.bool)

    monkeypatch.setattr(cpu_attention, "takes", takes)
    return calls


def text(length: int) -> torch.Tensor:
    return torch.randint(3, 96, (1, length), generator=torch.Generator().manual_seed(length))


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in KINDS if name not in EAGER_ONLY + TWO_WIDTHS])
def test_logits_are_those_of_eager_attention_around_windows_padded_and_packed(name, in_float32):
    ours, eager = kind(name), kind(name)
    eager.set_attn_implementation("eager")
    assert use_blocked_attention(ours) == ""
    assert ours.config.get_text_config()._attn_implementation == NAME
    for length in LENGTHS:
        ids = text(length)
        mask = torch.ones_like(ids)
        mask[:, : length // 4] = 0
        positions = (torch.arange(length) % (length // 2 + 1))[None]
        for options in ({}, {"attention_mask": mask}, {"position_ids": positions}):
            expected, logits = (model(ids, use_cache=False, **options).logits for model in (eager, ours))
            real = slice(length // 4, None)
            torch.testing.assert_close(logits[:, real], expected[:, real], rtol=0, atol=2e-5)
    assert in_float32


@pytest.mark.parametrize("name", EAGER_ONLY)
def test_a_model_whose_attention_transformers_computes_eagerly_keeps_it(name):
    model = kind(name)
    assert use_blocked_attention(model) == "transformers has only eager attention for it"
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", TWO_WIDTHS)
def test_keys_and_values_of_different_widths_stay_with_sdpa(name):
    model = kind(name)
    assert use_blocked_attention(model) == "its keys and values have different widths"
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("keyword", ["softcap", "s_aux", "position_bias", "never_heard_of"])
def test_a_keyword_that_changes_the_result_or_is_unknown_is_refused(keyword):
    states = torch.randn(1, 2, 5, 8)
    with pytest.raises(NotImplementedError, match=f"attention with {keyword}"):
        blocked(nn.Module(), states, states, states, None, **{keyword: torch.ones(2)})
    blocked(nn.Module(), states, states, states, None, **{keyword: None, "use_cache": True})


def planted(monkeypatch, attend):
    """A Qwen3 whose eager attention is `attend`, which its keywords don't tell."""
    from transformers.models.qwen3_moe import modeling_qwen3_moe

    own = modeling_qwen3_moe.eager_attention_forward
    monkeypatch.setattr(
        modeling_qwen3_moe,
        "eager_attention_forward",
        lambda module, query, key, value, mask, scaling, dropout=0.0, **kwargs: attend(
            own, module, query, key, value, mask, scaling, **kwargs
        ),
    )
    return kind("qwen3_moe")


@pytest.mark.parametrize("cap", [30.0, 50.0])
def test_a_soft_cap_that_no_keyword_tells_is_noticed(cap, monkeypatch):
    def capped(own, module, query, key, value, mask, scaling, **kwargs):
        scores = query @ key.repeat_interleave(module.num_key_value_groups, 1).mT * scaling
        scores = (scores / cap).tanh() * cap + mask
        values = value.repeat_interleave(module.num_key_value_groups, 1)
        return (scores.softmax(-1) @ values).transpose(1, 2), scores

    model = planted(monkeypatch, capped)
    assert "its attention differs by" in use_blocked_attention(model)
    assert model.config._attn_implementation == "sdpa"


def test_a_sink_that_no_keyword_tells_is_noticed(monkeypatch):
    def with_sinks(own, module, query, key, value, mask, scaling, **kwargs):
        module.sinks = torch.zeros(query.shape[1])
        return attention_with_sinks(module, query, key, value, mask, scaling, **kwargs)

    assert "its attention differs by" in use_blocked_attention(planted(monkeypatch, with_sinks))


@pytest.mark.parametrize("name", ["glm4", "cohere", "gemma3, text", "qwen3_moe"])
def test_wide_heads_whose_scores_round_more_are_taken(name):
    assert use_blocked_attention(kind(name, head_dim=128).bfloat16()) == ""


def test_a_wrong_kernel_is_noticed(monkeypatch):
    right = blocked_attention._attend
    monkeypatch.setattr(blocked_attention, "_attend", lambda *states: right(*states) * 1.001)
    assert "its attention differs by" in use_blocked_attention(kind("gemma3, text"))


@torch.no_grad()
def test_asking_for_probabilities_changes_no_logits_as_with_sdpa(in_float32):
    model, ids = kind("glm"), text(40)
    assert use_blocked_attention(model) == ""
    assert model(ids, output_attentions=True).logits.equal(model(ids).logits)


def test_a_tried_model_is_freed_with_its_last_name():
    model = kind("gemma3, text")
    assert use_blocked_attention(model) == ""
    layers = [weakref.ref(layer.self_attn) for layer in model.model.layers]
    del model
    gc.collect()
    assert [layer() for layer in layers] == [None, None]


@pytest.mark.skipif(not cpu_attention.multiplies_bfloat16(), reason="the CPU doesn't multiply bfloat16")
def test_gradients_in_bfloat16_are_as_near_to_float32_as_those_of_sdpa():
    exact, ours, sdpa = kind("gemma3, text"), kind("gemma3, text").bfloat16(), kind("gemma3, text").bfloat16()
    assert use_blocked_attention(ours) == ""
    ids, gradients = text(150), []
    for model in (exact, ours, sdpa):
        model(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append(model.model.layers[0].self_attn.q_proj.weight.grad.float())
    errors = [(gradient - gradients[0]).norm() / gradients[0].norm() for gradient in gradients[1:]]
    assert errors[0] < 2 * errors[1] + 0.01
