"""A tree whose branches attend to copies of their ancestors' keys has the scores of a tree with a mask."""

import pytest
import torch
from test_transformers_lm import lm, one_by_one, random_requests

from workbench.evaluation.inference import prefix_tree
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM
from workbench.models.ops import varlen_attention
from workbench.models.ops.packed_sequences import SMALL, Branches


@pytest.fixture
def open_llama():
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2)
    config = OpenLlamaConfig(vocab_size=400, num_hidden_layers=2, initializer_range=0.3, **sizes)
    return OpenLlamaForCausalLM(config).eval()


def chain_by_chain(query, key, value, offsets, longest, window, scaling, key_offsets, most_keys):
    """Attention as its formula says, chain by chain; the signature is that of `varlen_attention.Kernel`."""
    assert offsets.dtype == key_offsets.dtype == torch.int32 and window is None
    assert longest == offsets.diff().max() and most_keys == key_offsets.diff().max()
    outputs = []
    for number in range(len(offsets) - 1):
        queries = query[offsets[number] : offsets[number + 1]]
        own = slice(key_offsets[number], key_offsets[number + 1])
        keys, values = (
            states[own].repeat_interleave(query.shape[1] // key.shape[1], 1) for states in (key, value)
        )
        hidden = torch.ones(len(queries), len(keys), dtype=torch.bool).triu(len(keys) - len(queries) + 1)
        scores = torch.einsum("qad,kad->aqk", queries, keys) * scaling
        outputs.append(
            torch.einsum("aqk,kad->qad", scores.masked_fill(hidden, -torch.inf).softmax(-1), values)
        )
    return torch.cat(outputs)


@pytest.fixture
def kernel_calls(monkeypatch):
    """Let the CPU have a kernel for branches; the numbers of chains of its calls."""
    calls = []

    def counted(*given):
        calls.append(len(given[3]) - 1)
        return chain_by_chain(*given)

    monkeypatch.setattr(varlen_attention, "supports", lambda device, dtype, width: True)
    monkeypatch.setattr(varlen_attention, "torch_kernel", counted)
    return calls


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [7, 40, 4096])
def test_branches_of_a_pass_are_its_mask(llama, tokenizer, seed, budget):
    engine = lm(llama, tokenizer, batch_tokens=budget)
    tree = prefix_tree.build(random_requests(seed))
    compared = 0
    for step in prefix_tree.schedule(tree, budget):
        mask = engine._mask(tree, step)
        lengths, keys = prefix_tree.branches(tree, step)
        assert sum(lengths) == len(step.nodes)
        if mask is None:
            assert len(lengths) == 1 and sum(map(len, keys[0])) == step.num_cached + len(step.nodes)
            continue
        found, row = torch.zeros_like(mask[0, 0]), 0
        for length, ranges in zip(lengths, keys, strict=True):
            indices = [index for part in ranges for index in part]
            for position in range(length):
                found[row, indices[: len(indices) - length + position + 1]] = True
                row += 1
        assert torch.equal(found, mask[0, 0])
        compared += 1
    assert compared or budget == 7


@pytest.mark.parametrize("implementation", ["sdpa", "xformers"])
@pytest.mark.parametrize("budget", [40, 4096])
def test_scores_are_those_of_texts_alone(open_llama, tokenizer, kernel_calls, budget, implementation):
    open_llama.set_attn_implementation(implementation)
    engine = lm(open_llama, tokenizer, batch_tokens=budget)
    assert engine.shares_prefixes and max(kernel_calls) == 3  # the trials' three branches
    requests = random_requests(1)
    for request, found in zip(requests, engine.loglikelihoods(requests), strict=True):
        expected, greedy = one_by_one(open_llama, request)
        assert found.loglikelihood == pytest.approx(expected, abs=1e-4) and found.greedy == greedy
    assert max(kernel_calls) > 3


def test_items_alone_share_their_prefix(open_llama, tokenizer, kernel_calls):
    engine = lm(open_llama, tokenizer, batch_tokens=512)
    prefix = (0, *range(50, 90))
    for question in (5, 6):
        requests = [
            prefix_tree.TokenRequest((*prefix, question, 7, choice, 9), len(prefix) + 2)
            for choice in (1, 2, 3)
        ]
        kernel_calls.clear()
        found = engine.alone(requests, len(prefix))
        assert kernel_calls == [3] * open_llama.config.num_hidden_layers
        for request, likelihood in zip(requests, found, strict=True):
            assert likelihood.loglikelihood == pytest.approx(one_by_one(open_llama, request)[0], abs=1e-4)


def test_a_mask_stays_where_copies_of_keys_would_take_longer(open_llama, kernel_calls):
    def branches(count, length, prefix):
        keys = [
            [range(prefix), range(prefix + number * length, prefix + (number + 1) * length)]
            for number in range(count)
        ]
        return [length] * count, keys

    made = open_llama.mask_of_branches(*branches(60, 60, 1000))
    assert isinstance(made, Branches) and sum(made.lengths) * 4600 > SMALL
    assert open_llama.mask_of_branches(*branches(900, 4, 3000)) is None
    assert open_llama.mask_of_branches(*branches(3, 40, 8)) is not None


def test_a_cpu_has_no_kernel_for_branches(open_llama):
    assert open_llama.mask_of_branches([1, 1], [[range(1)], [range(1, 2)]]) is None


@pytest.mark.gpu
def test_on_a_gpu_scores_are_those_of_texts_alone(open_llama, tokenizer):
    made = open_llama.bfloat16().cuda()
    engine = lm(made, tokenizer, batch_tokens=4096)
    assert engine.shares_prefixes
    assert made.mask_of_branches([1, 1], [[range(1)], [range(1, 2)]]) is not None
    requests = random_requests(1)
    alone = lm(made, tokenizer, shared_prefix=False).loglikelihoods(requests)
    found = engine.loglikelihoods(requests)
    for ours, expected in zip(found, alone, strict=True):
        assert ours.loglikelihood == pytest.approx(expected.loglikelihood, abs=0.5, rel=0.05)
