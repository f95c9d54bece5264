"""Layers with a sliding window compute what transformers' classes do, at the window's ends and beyond it."""

import pytest
import torch
from relatives import as_open_llama, relative, tokens
from test_relatives import CLOSE, left_padded, trained_step
from transformers import DynamicCache, Qwen2MoeConfig, Qwen2MoeForCausalLM, StaticCache

from workbench.evaluation.inference.decoding.preallocated_cache import GrowingCache
from workbench.models import OpenLlamaConfig
from workbench.models.open_llama.relatives import relative_config
from workbench.models.ops import cpu_attention
from workbench.models.ops.fused import plain_layers

WINDOW = 8
LENGTHS = [WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW]
NAMES = ["mistral, window", "qwen2, window in one layer"]


@pytest.fixture(params=["eager", "sdpa", "xformers", "blocked"])
def attention(request, monkeypatch):
    """Each kernel; "blocked" is the CPU's, also in float32 and for short texts."""
    if request.param != "blocked":
        return request.param
    monkeypatch.setattr(cpu_attention, "BLOCK", 5)
    takes_any = lambda query, mask, _: query.shape[2] > 1 and (mask is None or mask.dtype == torch.bool)  # noqa: E731
    monkeypatch.setattr(cpu_attention, "takes", takes_any)
    return "sdpa"


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", NAMES)
def test_logits_loss_and_gradients_are_those_of_transformers(name, length, attention):
    reference, ids = relative(name), tokens(length=length)
    ours = as_open_llama(reference, attn_implementation=attention)
    wanted = trained_step(reference, ids)
    torch.testing.assert_close(trained_step(ours, ids), wanted, **CLOSE)
    with plain_layers():
        torch.testing.assert_close(trained_step(ours, ids), wanted, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", NAMES)
def test_padded_rows_are_those_of_transformers(name, side, attention):
    reference, ids = relative(name), tokens(length=3 * WINDOW)
    mask = left_padded(ids)
    mask = mask if side == "left" else mask.flip(1)
    ours = as_open_llama(reference, attn_implementation=attention)
    found, wanted = (model(ids, attention_mask=mask).logits[mask == 1] for model in (ours, reference))
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_of_packed_texts_each_has_its_own_window(name, attention):
    reference = relative(name)
    ours = as_open_llama(reference, attn_implementation=attention)
    ids, lengths = tokens(batch=1, length=sum(LENGTHS)), LENGTHS
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    packed = ours(ids, position_ids=positions).logits
    alone = [reference(text).logits for text in ids.split(lengths, 1)]
    torch.testing.assert_close(packed, torch.cat(alone, 1), **CLOSE)
    packed.square().mean().backward()
    torch.cat(alone, 1).square().mean().backward()
    for weight, parameter in reference.named_parameters():
        torch.testing.assert_close(ours.get_parameter(weight).grad, parameter.grad, **CLOSE)


CACHES = {
    "none": lambda: {"use_cache": False},
    "transformers' own choice": dict,
    "static": lambda: {"cache_implementation": "static"},
    "all tokens": lambda: {"past_key_values": DynamicCache()},
    "growing": lambda: {"past_key_values": GrowingCache()},
}


@pytest.mark.parametrize("name", NAMES)
def test_generation_across_the_windows_end_is_that_of_transformers_with_every_cache(name, attention):
    reference, ids = relative(name), tokens(length=WINDOW - 1)
    ours = as_open_llama(reference, attn_implementation=attention)
    options = dict(max_new_tokens=2 * WINDOW + 1, do_sample=False, eos_token_id=None)
    options |= dict(attention_mask=left_padded(ids), output_logits=True, return_dict_in_generate=True)
    wanted = reference.generate(ids, **options)
    for caching in CACHES.values():
        found = ours.generate(ids, **options, **caching())
        assert torch.equal(found.sequences, wanted.sequences)
        torch.testing.assert_close(found.logits, wanted.logits, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_new_tokens_continues_on_every_cache(name, attention):
    reference, ids = relative(name), tokens(length=5 * WINDOW)
    ours, wanted = as_open_llama(reference, attn_implementation=attention), reference(ids).logits
    static = StaticCache(ours.config, max_cache_len=5 * WINDOW)
    for cache in (DynamicCache(), DynamicCache(config=ours.config), GrowingCache(), static):
        steps = ids.split((WINDOW - 2, 1, 1, 1, WINDOW + 1, 1, 2 * WINDOW + 5), 1)
        logits = [ours(step, past_key_values=cache).logits for step in steps]
        torch.testing.assert_close(torch.cat(logits, 1), wanted, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "xformers"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_share_a_prefix_within_the_window_and_not_beyond_it(name, attention):
    reference, ids = relative(name), tokens(length=WINDOW + 1)
    ours = as_open_llama(reference, attn_implementation=attention)
    ids[1, :3] = ids[0, :3]
    prefix = ours(ids[:1, :3], past_key_values=DynamicCache()).past_key_values

    def last(length):
        """Logits of the last of `length` tokens, the first three of which are shared."""
        own = DynamicCache()
        for end in range(4, length + 1):
            mask = torch.ones(2, 1, 1, end - 3, dtype=torch.bool)
            places = {"position_ids": torch.tensor([[end - 1]]), "past_key_values": own}
            shared = [(prefix, slice(0, 2))]
            logits = ours(ids[:, end - 1 : end], attention_mask=mask, shared_prefixes=shared, **places).logits
        return logits[:, 0]

    torch.testing.assert_close(last(WINDOW), reference(ids[:, :WINDOW]).logits[:, -1], **CLOSE)
    with pytest.raises(ValueError, match="a prefix and its row of 9 tokens exceed sliding_window=8"):
        last(WINDOW + 1)


@pytest.mark.parametrize(
    ("name", "fields", "windows"),
    [
        ("mistral, window", {"sliding_window": 1000}, [1000, 1000]),
        ("qwen2, window in one layer", {"max_window_layers": 0}, [8, 8]),
        ("qwen2, window in one layer", {"max_window_layers": 2}, [None, None]),
        ("qwen2, window in one layer", {"use_sliding_window": False}, [None, None]),
        ("qwen3", {"layer_types": ["sliding_attention", "full_attention"]}, [16, None]),
    ],
)
def test_windows_of_a_configuration_are_those_of_its_layers(name, fields, windows):
    if "layer_types" in fields:
        fields = fields | {"use_sliding_window": True}
    reference, ids = relative(name, **fields), tokens()
    ours = as_open_llama(reference)
    assert ours.config.windows == windows
    back = relative_config(ours.config)
    assert getattr(back, "layer_types", None) == getattr(reference.config, "layer_types", None)
    torch.testing.assert_close(ours(ids).logits, reference(ids).logits, **CLOSE)


@pytest.mark.parametrize("window", [None, 8])
def test_layers_that_all_attend_to_all_tokens_have_no_window(window):
    kinds = ["full_attention", "full_attention"]
    switches = dict(use_stable_embedding=False, shared_input_output_embedding=False, hidden_dropout_prob=0.0)
    config = OpenLlamaConfig(**switches, num_hidden_layers=2, sliding_window=window, layer_types=kinds)
    assert (config.sliding_window, config.layer_types) == (None, None)
    assert relative_config(config).model_type == "llama"


def test_windows_in_some_layers_of_a_llama_are_a_relative_of_none():
    kinds = ["full_attention", "sliding_attention"]
    switches = dict(use_stable_embedding=False, shared_input_output_embedding=False, num_hidden_layers=2)
    config = OpenLlamaConfig(**switches, sliding_window=8, layer_types=kinds)
    with pytest.raises(ValueError, match="no mistral of transformers has layer_types="):
        relative_config(config)


@torch.no_grad()
@pytest.mark.parametrize("length", [WINDOW, WINDOW + 1, 3 * WINDOW])
def test_a_window_is_kept_that_layers_of_transformers_do_not_tell_the_kernel(length):
    sizes = dict(hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_experts=4, vocab_size=50)
    heads = dict(num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
    window = dict(use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1)
    model = Qwen2MoeForCausalLM(Qwen2MoeConfig(**sizes, **heads, **window)).eval()
    logits = {}
    for name in ("eager", "xformers"):
        model.set_attn_implementation(name)
        logits[name] = model(tokens(length=length) % 50).logits
    torch.testing.assert_close(logits["xformers"], logits["eager"], **CLOSE)
