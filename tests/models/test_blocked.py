"""Attention block by block is attention."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from workbench.models.ops import attention, cpu_attention


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(cpu_attention, "BLOCK", 8)


def states(length=21, keys=21, heads=6, groups=2, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = ((2, length, heads, 16), (2, keys, groups, 16), (2, keys, groups, 16))
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def plain(query, key, value, mask):
    repeats = query.shape[2] // key.shape[2]
    rows = [query, key.repeat_interleave(repeats, 2), value.repeat_interleave(repeats, 2)]
    rows = [each.transpose(1, 2) for each in rows]
    return F.scaled_dot_product_attention(*rows, mask, is_causal=mask is None, scale=0.3).transpose(1, 2)


def padded(side, length=21):
    mask = torch.ones(2, 1, length, length, dtype=torch.bool).tril()
    mask[1, :, :, slice(0, 9) if side == "left" else slice(12, None)] = False
    return mask


def packed():
    text = torch.tensor([0] * 5 + [1] * 12 + [2] * 4)
    return (text[:, None] == text).tril().expand(2, 1, 21, 21)


def branches():
    """Two lines of ten that continue the same beginning, and a key at the end that all see."""
    mask = torch.ones(21, 21, dtype=torch.bool).tril()
    mask[11:, 1:11] = False
    mask[:, 20] = True
    return mask.expand(2, 1, 21, 21)


@pytest.mark.parametrize("heads", [(6, 2), (4, 4), (4, 1)], ids=str)
@pytest.mark.parametrize(
    "mask",
    [None, padded("left"), padded("right"), packed(), branches()],
    ids=["none", "left", "right", "packed", "branches"],
)
def test_values_and_gradients_are_those_of_pytorchs_attention(heads, mask):
    given = states(heads=heads[0], groups=heads[1])
    sees = torch.ones(2, 21, 1, 1) if mask is None else mask.any(-1)[:, 0, :, None, None]
    weight = torch.randn(2, 21, heads[0], 16) * sees  # what a query that sees nothing gives is of no interest
    found = cpu_attention.attend(*given, mask, 0.3) * weight
    wanted = plain(*given, mask).where(sees.bool(), 0) * weight
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(found.sum(), given)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted.sum(), given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("texts", [(5, 12, 4, 21), (9, 12, 1, 20)], ids=str)
def test_texts_behind_one_another_do_not_see_each_other(texts):
    text = torch.arange(4).repeat_interleave(torch.tensor(texts)).view(2, 1, 21)
    mask = (text[..., None] == text[..., None, :]).tril()
    given = states()
    found, wanted = cpu_attention.attend(*given, None, 0.3, texts), plain(*given, mask)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    weight = torch.randn(found.shape)
    gradients = torch.autograd.grad((found * weight).sum(), given)
    wanted = torch.autograd.grad((wanted * weight).sum(), given)
    torch.testing.assert_close(gradients, wanted, atol=1e-5, rtol=1e-5)


def test_new_tokens_see_the_keys_of_a_cache():
    given = states(length=9)
    mask = torch.ones(2, 1, 9, 21, dtype=torch.bool).tril(12)
    torch.testing.assert_close(
        cpu_attention.attend(*given, mask, 0.3), plain(*given, mask), atol=1e-5, rtol=1e-5
    )


def test_keys_that_no_query_of_a_block_sees_are_left_out():
    def seen(blocks):
        return [(block.queries, block.keys) for block in blocks]

    [every] = cpu_attention._triangles((21,), 21, torch.float32, None)
    assert seen(every) == [
        (slice(0, 8), slice(0, 8)),
        (slice(8, 16), slice(0, 16)),
        (slice(16, 21), slice(0, 21)),
    ]
    first, second = cpu_attention._blocks(padded("right"), torch.float32)
    assert seen([*first, second[-1]]) == [*seen(every), (slice(16, 21), slice(0, 12))]
    assert seen(cpu_attention._blocks(packed()[:1], torch.float32)[0])[-1] == (slice(16, 21), slice(5, 21))
    last = cpu_attention._blocks(branches(), torch.float32)[0][-1]
    assert last.keys.tolist() == [0, *range(11, 17), 20, 17, 18, 19]
    assert last.bias.shape == (5, 3)  # all see the others


@pytest.mark.parametrize("window", [1, 5, 8, 20, 21])
@pytest.mark.parametrize("texts", [None, (5, 12, 4, 21), (9, 12, 1, 20)], ids=str)
def test_a_window_is_counted_within_each_text(texts, window):
    text = torch.arange(4).repeat_interleave(torch.tensor(texts or (21, 0, 0, 21))).view(2, 1, 21)
    mask = (text[..., None] == text[..., None, :]).tril().triu(1 - window)
    given = states()
    found, wanted = cpu_attention.attend(*given, None, 0.3, texts, window), plain(*given, mask)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    weight = torch.randn(found.shape)
    gradients = torch.autograd.grad((found * weight).sum(), given)
    wanted = torch.autograd.grad((wanted * weight).sum(), given)
    torch.testing.assert_close(gradients, wanted, atol=1e-5, rtol=1e-5)


def test_the_work_falls_with_the_window():
    def work(window):
        with FlopCounterMode(display=False) as counter:
            cpu_attention.attend(*states(length=64, keys=64), None, 0.3, window=window).sum().backward()
        return counter.get_total_flops()

    blocks = range(8, 65, 8)  # the last key of each
    assert work(8) / work(None) == sum(min(8 + 8 - 1, end) for end in blocks) / sum(blocks)


def test_a_mask_that_was_changed_is_looked_at_again():
    given, mask = states(), padded("right").contiguous()
    before = cpu_attention.attend(*given, mask, 0.3)
    mask[:, :, 20, 3:] = False
    found = cpu_attention.attend(*given, mask, 0.3)
    torch.testing.assert_close(found, plain(*given, mask), atol=1e-5, rtol=1e-5)
    assert (found - before)[:, 20].abs().max() > 0.1


def test_query_that_sees_nothing_gives_numbers():
    given = states()
    found = cpu_attention.attend(*given, padded("left"), 0.3)
    assert found.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(found.sum(), given))


def test_bfloat16_is_as_close_to_float32_as_eager_attention():
    given = [each.detach() for each in states()]
    exact = plain(*given, None)
    half = [each.bfloat16() for each in given]
    mask = torch.full((21, 21), -torch.inf, dtype=torch.bfloat16).triu(1)
    rows = [each.transpose(1, 2) for each in half]
    stepwise, _ = attention.eager(torch.nn.Identity().eval(), *rows, mask, scaling=0.3)
    found = cpu_attention.attend(*half, None, 0.3)
    assert (found - exact).abs().max() < 1.5 * (stepwise - exact).abs().max()


def test_only_long_bfloat16_calls_without_dropout_go_block_by_block():
    usual = torch.empty(1, 2, cpu_attention.MIN_QUERIES, 16, dtype=torch.bfloat16)
    assert cpu_attention.takes(usual, None, 0.0) == cpu_attention.multiplies_bfloat16()
    assert not cpu_attention.takes(usual, None, 0.1)
    assert not cpu_attention.takes(usual.float(), None, 0.0)
    assert not cpu_attention.takes(usual[:, :, 1:], None, 0.0)
    assert (
        cpu_attention.takes(usual[:, :, 1:].requires_grad_(), None, 0.0)
        == cpu_attention.multiplies_bfloat16()
    )
    assert not cpu_attention.takes(usual, torch.zeros(1, 1, 1, 1), 0.0)
    assert not cpu_attention.takes(usual.to("meta"), None, 0.0)
