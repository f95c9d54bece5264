"""LLaMA's relatives as Open-Llama: what transformers' own classes compute, on every path."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from relatives import RELATIVES, as_open_llama, relative, tokens
from transformers import DynamicCache, StaticCache

from workbench.evaluation.inference.decoding.preallocated_cache import GrowingCache
from workbench.models import OpenLlamaConfig
from workbench.models.open_llama.relatives import OPTIONAL_FIELDS
from workbench.models.ops import cpu_attention, lora_projection
from workbench.models.ops.fused import plain_layers

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CLOSE = dict(rtol=0, atol=1e-5)


def trained_step(model, ids, **inputs):
    """Logits, loss and gradients of a step in train mode."""
    model.train()
    model.zero_grad()
    out = model(ids, labels=ids, **inputs)
    out.loss.backward()
    gradients = {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }
    return out.logits.detach(), out.loss.detach(), gradients


def left_padded(ids):
    return torch.ones_like(ids).index_put_((torch.tensor(0), torch.arange(5)), torch.tensor(0))


@pytest.mark.parametrize("name", RELATIVES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_logits_loss_and_gradients_are_those_of_transformers(name, attention):
    reference = relative(name, attn_implementation=attention)
    ours, ids = as_open_llama(reference, attn_implementation=attention), tokens()
    wanted = trained_step(reference, ids)
    assert set(wanted[2]) == {weight for weight, _ in ours.named_parameters()}
    torch.testing.assert_close(trained_step(ours, ids), wanted, **CLOSE)
    with plain_layers():
        torch.testing.assert_close(trained_step(ours, ids), wanted, **CLOSE)
    mask = left_padded(ids)
    found, wanted_logits = (model.eval()(ids, attention_mask=mask).logits for model in (ours, reference))
    torch.testing.assert_close(found[mask == 1], wanted_logits[mask == 1], **CLOSE)


@pytest.mark.parametrize("name", RELATIVES)
def test_decoding_is_that_of_transformers_with_every_cache(name):
    reference = relative(name)
    ours, ids = as_open_llama(reference), tokens()
    options = dict(max_new_tokens=12, do_sample=False, eos_token_id=None, attention_mask=left_padded(ids))
    wanted = reference.generate(ids, **options)
    for caching in ({}, {"cache_implementation": "static"}, {"use_cache": False}):
        assert torch.equal(ours.generate(ids, **options, **caching), wanted)


@torch.no_grad()
@pytest.mark.parametrize("name", RELATIVES)
def test_logits_after_cached_tokens_are_those_without_a_cache(name):
    reference = relative(name)
    ours, ids = as_open_llama(reference), tokens()
    wanted = reference(ids).logits
    for cache in (DynamicCache(), GrowingCache(), StaticCache(ours.config, max_cache_len=32)):
        steps = [ours(step, past_key_values=cache).logits for step in (ids[:, :9], ids[:, 9:10], ids[:, 10:])]
        torch.testing.assert_close(torch.cat(steps, 1), wanted, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in RELATIVES if "window" not in name])
@pytest.mark.parametrize("attention", ["sdpa", "xformers"])
def test_packed_texts_and_rows_behind_a_shared_prefix_are_as_alone(name, attention):
    reference = relative(name)
    ours = as_open_llama(reference, attn_implementation=attention)
    ids = tokens()
    prefix, first, second = ids[:1, :6], ids[:1, 6:14], ids[:1, 14:]
    positions = torch.cat([torch.arange(8), torch.arange(10)])[None]
    packed = ours(torch.cat([first, second], 1), position_ids=positions).logits
    wanted = torch.cat([reference(text).logits for text in (first, second)], 1)
    torch.testing.assert_close(packed, wanted, **CLOSE)
    caches = [DynamicCache(), DynamicCache()]
    for cache, length in zip(caches, (6, 2), strict=True):
        ours(prefix[:, :length], past_key_values=cache)
    starts = [prefix, prefix[:, :2], prefix[:, :0]]  # two rows with a prefix, one without
    rows = torch.cat([first[:, :1], second[:, :1], second[:, :1]])
    after = ours(
        rows,
        attention_mask=torch.ones(3, 1, 1, 1, dtype=torch.bool),
        position_ids=torch.tensor([[6], [2], [0]]),
        shared_prefixes=[(caches[0], slice(0, 1)), (caches[1], slice(1, 2))],
        use_cache=False,
    ).logits
    for row, start in enumerate(starts):
        whole = torch.cat([start, rows[row : row + 1]], 1)
        torch.testing.assert_close(after[row, -1], reference(whole).logits[0, -1], **CLOSE)


@pytest.mark.parametrize("name", [name for name in RELATIVES if name != "granite"])  # has no classifier
def test_the_classifier_is_that_of_transformers(name):
    reference = relative(name, is_classifier=True)
    ours, ids = as_open_llama(reference), tokens()
    ids[0, 15:] = 0
    labels = torch.tensor([0, 1])
    for model in (reference, ours):
        model.train()(ids, labels=labels, attention_mask=(ids != 0).long()).loss.backward()
    torch.testing.assert_close(ours(ids).logits, reference(ids).logits, **CLOSE)
    for weight, parameter in reference.named_parameters():
        torch.testing.assert_close(ours.get_parameter(weight).grad, parameter.grad, **CLOSE)


@pytest.mark.parametrize("name", RELATIVES)
def test_adapters_train_as_pefts_on_transformers_class(name):
    reference = relative(name)
    ours, ids = as_open_llama(reference), tokens()
    results = []
    for model in (reference, ours):
        torch.manual_seed(1)
        config = LoraConfig(r=4, target_modules=EVERY, init_lora_weights=False, task_type="CAUSAL_LM")
        results.append(trained_step(get_peft_model(model, config), ids))
    layer = ours.model.layers[0]
    assert all(lora_projection.plain_lora(getattr(layer.self_attn, name)) for name in EVERY[:4])
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", RELATIVES)
def test_in_bfloat16_it_is_no_further_from_float32_than_transformers(name, monkeypatch):
    """Over six draws of weights and tokens: how rounding errors meet in one of them differs by processor."""
    monkeypatch.setattr(cpu_attention, "BLOCK", 8)
    squares = torch.zeros(2, 2)  # (model, gradients or logits)
    for seed in range(6):
        reference = relative(name, seed=seed, attn_implementation="eager")
        ours, ids = as_open_llama(reference, attn_implementation="sdpa"), tokens(length=48, seed=seed)
        exact = trained_step(reference, ids)
        for row, model in enumerate((ours, reference)):
            logits, _, gradients = trained_step(model.bfloat16(), ids)
            squares[row, 0] += sum((gradients[key] - exact[2][key]).square().sum() for key in exact[2])
            squares[row, 1] += (logits - exact[0]).square().sum()
    assert (squares[0] < 1.1**2 * squares[1]).all()


def test_optional_fields_are_written_only_where_they_are_set(tmp_path):
    optional = {"head_dim", *OPTIONAL_FIELDS}
    written = {}
    for name in RELATIVES:
        config = OpenLlamaConfig.from_dict(relative(name).config.to_dict())
        config.save_pretrained(tmp_path)
        content = json.loads((tmp_path / "config.json").read_text())
        written[name] = {field: content[field] for field in sorted(optional & content.keys())}
        assert OpenLlamaConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    assert written == {
        "llama": {},
        "llama, attention biases": {"o_bias": True, "qkv_bias": True},
        "llama, biases": {"mlp_bias": True, "o_bias": True, "qkv_bias": True},
        "llama, wide heads": {"head_dim": 24},
        "mistral, narrow heads": {"head_dim": 8},
        "mistral, window": {"head_dim": 8, "sliding_window": 8},
        "qwen2, window in one layer": {
            "qkv_bias": True,
            "sliding_window": 8,
            "layer_types": ["full_attention", "sliding_attention"],
        },
        "qwen2": {"qkv_bias": True},
        "qwen2, tied": {"qkv_bias": True},
        "qwen3": {"head_dim": 32, "head_norm": True},
        "granite": RELATIVES["granite"][1],
        "internlm3": {"mlp_bias": True, "o_bias": True, "qkv_bias": True},
        "qwen3, tied": {"head_norm": True},
        "qwen3, biases": {"head_dim": 24, "head_norm": True, "o_bias": True, "qkv_bias": True},
    }
