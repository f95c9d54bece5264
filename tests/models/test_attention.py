"""Every attention says the same: padded, cached, grouped and packed."""

import logging

import pytest
import torch
from tiny import model, tokens
from torch.utils.flop_counter import FlopCounterMode
from transformers import StaticCache

from workbench.models.ops import attention, xformers_attention
from workbench.models.ops.xformers_kernels import missing_reason

EVERY = ["eager", "sdpa", "xformers"]


def positions(*lengths):
    return torch.cat([torch.arange(length) for length in lengths])[None]


def padded(side, ids, pads=(0, 5)):
    mask = torch.ones_like(ids)
    for row, count in enumerate(pads):
        mask[row, slice(0, count) if side == "left" else slice(ids.shape[1] - count, None)] = 0
    return mask


def twins(name, **fields):
    fields = {"hidden_dropout_prob": 0.0, "attention_dropout_prob": 0.0, **fields}
    return model(attn_implementation=name, **fields), model(attn_implementation="eager", **fields)


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("side", [None, "left", "right"])
def test_attentions_agree_on_padded_rows(name, side, groups):
    one, other = twins(name, num_key_value_heads=groups)
    ids = tokens()
    mask = None if side is None else padded(side, ids)
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    with torch.no_grad():
        found, wanted = (each(ids, attention_mask=mask).logits[real] for each in (one, other))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("name", ["sdpa", "xformers"])
def test_rows_behind_shared_prefixes_get_the_logits_of_whole_rows(name, groups):
    """Two rows share a prefix, the third has another, and the last has none; one token at a time."""
    made = twins(name, num_key_value_heads=groups)[0]
    ids, lengths = tokens(4), [5, 5, 3, 0]
    ids[1, :5] = ids[0, :5]
    with torch.no_grad():
        caches = [made(ids[r : r + 1, : lengths[r]], use_cache=True).past_key_values for r in (0, 2)]
        held, cache = [[layer.keys.clone() for layer in prefix.layers] for prefix in caches], None
        for step in range(4):
            positions = torch.tensor(lengths)[:, None] + step
            out = made(
                ids.gather(1, positions),
                attention_mask=torch.ones(4, 1, 1, step + 1, dtype=torch.bool),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                shared_prefixes=[(caches[0], slice(0, 2)), (caches[1], slice(2, 3))],
            )
            cache = out.past_key_values
            for row, length in enumerate(lengths):
                whole = made(ids[row : row + 1, : length + step + 1]).logits[0, -1]
                torch.testing.assert_close(out.logits[row, -1], whole, atol=1e-5, rtol=1e-5)
    assert cache.get_seq_length() == 4
    for prefix, keys in zip(caches, held, strict=True):
        assert all(torch.equal(layer.keys, old) for layer, old in zip(prefix.layers, keys, strict=True))


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_several_new_tokens_on_a_cache_see_all_before_them(name, cache, groups):
    made, _ = twins(name, num_key_value_heads=groups)
    ids = tokens()
    with torch.no_grad():
        whole = made(ids).logits
        past = StaticCache(made.config, max_cache_len=32) if cache == "static" else None
        for start, end in ((0, 5), (5, 9), (9, 10), (10, 12)):
            out = made(ids[:, start:end], past_key_values=past, use_cache=True)
            past = out.past_key_values
            torch.testing.assert_close(out.logits, whole[:, start:end], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_padded_rows_continue_on_a_cache(name):
    made, _ = twins(name)
    ids = tokens()
    mask = padded("left", ids)
    with torch.no_grad():
        whole = made(ids, attention_mask=mask).logits
        past = made(ids[:, :8], attention_mask=mask[:, :8]).past_key_values
        found = made(ids[:, 8:], attention_mask=mask, past_key_values=past).logits
    torch.testing.assert_close(found, whole[:, 8:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("groups", [4, 2])
def test_packed_texts_give_the_logits_and_gradients_of_the_texts_alone(name, groups):
    made, _ = twins(name, num_key_value_heads=groups)
    made.train()
    ids = tokens(batch=2, length=20)
    rows = [(7, 1, 7, 5), (20,)]
    place = torch.cat([positions(*lengths) for lengths in rows])
    labels = ids.masked_fill(place == 0, -100)  # the first token of a text has nothing before it
    texts = [text for row, lengths in zip(ids, rows, strict=True) for text in row.split(lengths)]

    packed = made(ids, position_ids=place, labels=labels)
    found = packed.logits.flatten(0, 1).split([len(text) for text in texts])
    packed.loss.backward()
    gradients = {key: weight.grad.clone() for key, weight in made.named_parameters()}
    made.zero_grad()
    for text, logits in zip(texts, found, strict=True):
        alone = made(text[None], labels=text[None], num_items_in_batch=(labels != -100).sum())
        torch.testing.assert_close(logits, alone.logits[0], atol=1e-5, rtol=1e-5)
        alone.loss.backward()
    for key, weight in made.named_parameters():
        torch.testing.assert_close(gradients[key], weight.grad, atol=1e-5, rtol=1e-5)


def test_packed_texts_cost_the_sum_of_their_squared_lengths():
    key = torch.randn(1, 2, 1024, 8)

    def cost(place):
        packed = attention.packed_texts(place, 1)
        with FlopCounterMode(display=False) as counter:
            attention.sdpa(torch.nn.Identity(), key, key, key, None, scaling=1.0, packed=packed)
        return counter.get_total_flops()

    assert cost(positions(*[128] * 8)) == cost(positions(1024)) / 8
    assert cost(positions(512, 256, 256)) == cost(positions(1024)) * 3 / 8


@pytest.mark.parametrize(
    ("place", "lengths"),
    [
        (positions(3, 2, 4), [3, 2, 4]),
        (torch.tensor([[0, 1, 2, 7, 8], [3, 4, 5, 6, 7]]), [3, 2, 5]),
        (torch.tensor([[0, 1, 0, 0, 0]]), [2, 1, 1, 1]),
        (positions(5), None),
        (positions(5) + 9, None),
    ],
    ids=str,
)
def test_texts_are_told_apart_where_positions_jump(place, lengths):
    found = attention.packed_texts(place, len(place))
    assert (found and found.lengths) == lengths


def test_flash_attention_is_told_the_boundaries_of_packed_texts_over_the_whole_batch():
    packed = attention.packed_texts(positions(3, 2), 2)
    told = attention.PACKING["flash_attention_2"](packed)
    assert told["cu_seq_lens_q"].tolist() == told["cu_seq_lens_k"].tolist() == [0, 3, 5, 8, 10]
    assert told["max_length_q"] == told["max_length_k"] == 3


def test_mask_of_four_dimensions_is_taken_as_it_is():
    ids = tokens(batch=1, length=4)
    together = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]).bool()[None, None]
    mask = torch.zeros(together.shape).masked_fill(~together, torch.finfo(torch.float32).min)
    for name in EVERY:
        made, _ = twins(name)
        with torch.no_grad():
            found = made(ids, attention_mask=mask, position_ids=positions(2, 2)).logits
            torch.testing.assert_close(
                found, made(ids, position_ids=positions(2, 2)).logits, atol=1e-5, rtol=1e-5
            )


def test_which_attention_runs_is_said_once(caplog):
    xformers_attention.log_once.cache_clear()
    made, _ = twins("xformers")
    with caplog.at_level(logging.INFO, "workbench"):
        made(tokens())
        made(tokens())
    assert [record.message for record in caplog.records] == [
        "attention: sdpa (xformers has no kernel for cpu)"
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the default differs with a GPU")
def test_without_a_gpu_memory_efficient_attention_is_pytorchs():
    assert model(use_memory_efficient_attention=True).config._attn_implementation == "sdpa"
    assert model(use_memory_efficient_attention=False).config._attn_implementation == "sdpa"
    assert model(attn_implementation="eager").config._attn_implementation == "eager"


def test_attention_is_changed_on_a_made_model():
    made = model()
    made.set_attn_implementation("eager")
    assert made.config._attn_implementation == "eager"


def materialised(bias, queries, keys):
    return bias.materialize((queries, keys)) == 0


def test_xformers_bias_of_packed_texts_is_a_block_triangle_for_each():
    pytest.importorskip("xformers.ops.fmha.attn_bias")
    packed = attention.packed_texts(positions(3, 2), 1)
    bias = xformers_attention.xformers_bias(None, packed, torch.empty(1, 4, 5, 8), 5)
    assert type(bias).__name__ == "BlockDiagonalCausalMask"
    blocks = torch.block_diag(torch.ones(3, 3).tril(), torch.ones(2, 2).tril()).bool()
    assert torch.equal(materialised(bias, 5, 5), blocks)


@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_xformers_bias_of_a_window_ends_with_the_window_in_each_text(window):
    pytest.importorskip("xformers.ops.fmha.attn_bias")
    packed, query = attention.packed_texts(positions(4, 2), 1), torch.empty(1, 4, 6, 8)
    whole = torch.ones(6, 6).tril().triu(1 - window).bool()
    bias = xformers_attention.xformers_bias(None, None, query, 6, window)
    assert torch.equal(materialised(bias, 6, 6), whole)
    bias = xformers_attention.xformers_bias(None, packed, query, 6, window)
    assert ("Local" in type(bias).__name__) == (window < 4)
    assert torch.equal(
        materialised(bias, 6, 6), whole & torch.block_diag(torch.ones(4, 4), torch.ones(2, 2)).bool()
    )


def test_xformers_bias_on_a_cache_is_aligned_with_the_last_key():
    pytest.importorskip("xformers.ops.fmha.attn_bias")
    bias = xformers_attention.xformers_bias(None, None, torch.empty(1, 4, 2, 8), 5)
    assert torch.equal(materialised(bias, 2, 5), torch.ones(2, 5).tril(3).bool())
    assert xformers_attention.xformers_bias(None, None, torch.empty(1, 4, 1, 8), 5) is None


def test_xformers_bias_of_padding_hides_the_pads():
    pytest.importorskip("xformers.ops.fmha.attn_bias")
    mask = torch.tensor([[0, 1, 1]]).bool()[:, None, None] & torch.ones(3, 3).tril().bool()
    bias = xformers_attention.xformers_bias(mask, None, torch.empty(1, 4, 3, 8), 3)
    assert bias.shape == (1, 4, 3, 3) and bias.stride(-2) == 8
    assert torch.equal(bias[:, :1] == 0, mask)
    assert torch.isfinite(bias).all()


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_xformers_kernel_gives_the_numbers_of_eager_attention(dtype, window, caplog):
    pytest.importorskip("xformers")
    assert missing_reason(torch.device("cuda")) is None
    xformers_attention.log_once.cache_clear()
    caplog.set_level(logging.INFO, "workbench")
    fields = dict(num_key_value_heads=2, sliding_window=window)
    one, other = (each.to("cuda", dtype) for each in twins("xformers", **fields))
    ids = tokens().cuda()
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.3, "rtol": 0.05}
    calls = [
        {},
        {"attention_mask": padded("left", ids)},
        {"attention_mask": padded("right", ids)},
        {"position_ids": positions(7, 5).expand(2, -1).cuda()},
    ]
    with torch.no_grad():
        for call in calls:
            real = call.get("attention_mask", torch.ones_like(ids)).bool()
            torch.testing.assert_close(
                one(ids, **call).logits[real], other(ids, **call).logits[real], **tolerance
            )
        past = one(ids[:, :6]).past_key_values
        found = one(ids[:, 6:], past_key_values=past).logits
        torch.testing.assert_close(found, other(ids).logits[:, 6:], **tolerance)
    kinds = [record.message for record in caplog.records if record.message.startswith("attention: xformers")]
    assert any("packed" in kind for kind in kinds) and any("causal" in kind for kind in kinds)


def test_a_mask_of_truth_values_hides_the_same_keys_where_attentions_are_asked_for():
    made, ids = model(attn_implementation="sdpa"), tokens()
    mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()[None, None]
    found = made(ids, attention_mask=mask, output_attentions=True)
    torch.testing.assert_close(found.logits, made(ids).logits, atol=1e-5, rtol=1e-5)
    assert found.attentions[0][..., ~mask[0, 0]].abs().max() == 0
