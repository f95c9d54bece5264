import random

import pytest
import torch
from transformers import PreTrainedModel

from workbench.config.evaluate import EvaluateConfig
from workbench.contexts import evaluation_mode
from workbench.evaluation.inference import prefix_tree
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.logprobs import logprobs
from workbench.evaluation.inference.prefix_tree import TokenRequest


def one_by_one(model: PreTrainedModel, request: TokenRequest) -> tuple[float, bool]:
    with torch.inference_mode():
        logprobs = model(input_ids=torch.tensor([request.tokens[:-1]])).logits[0].log_softmax(-1)
    places = range(request.first, len(request.tokens))
    values = [logprobs[p - 1, request.tokens[p]].item() for p in places]
    return sum(values), all(logprobs[p - 1].argmax().item() == request.tokens[p] for p in places)


def random_requests(seed: int) -> list[TokenRequest]:
    """Few-shot beginnings, questions under each, choices under each question; some alone, some equal."""
    rng = random.Random(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.choices(range(400), k=rng.randint(low, high)))

    requests = []
    for _ in range(3):
        beginning = (0, *tokens(0, 60))
        for _ in range(rng.randint(1, 6)):
            context = beginning + tokens(1, 30)
            for _ in range(4):
                requests.append(TokenRequest(context + tokens(1, 6), len(context)))
    requests += [TokenRequest((0, 5), 1), requests[0], TokenRequest((0, *tokens(120, 150)), 1)]
    rng.shuffle(requests)
    return requests


def lm(model, tokenizer, **settings) -> TransformersLM:
    return TransformersLM(model, tokenizer, EvaluateConfig(**settings))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [1, 7, 40, 100, 4096])
def test_shared_prefix_scores_equal_one_by_one_scores_for_any_budget(llama, tokenizer, seed, budget):
    requests = random_requests(seed)
    engine = lm(llama, tokenizer, batch_tokens=budget)
    assert engine.shares_prefixes
    for request, found in zip(requests, engine.loglikelihoods(requests), strict=True):
        expected, greedy = one_by_one(llama, request)
        assert found.loglikelihood == pytest.approx(expected, abs=1e-4)
        assert found.num_tokens == len(request.tokens) - request.first
        assert found.greedy == greedy


def test_a_model_with_learned_positions_shares_prefixes_too(gpt2, tokenizer):
    requests = random_requests(5)
    engine = lm(gpt2, tokenizer, batch_tokens=64)
    assert engine.shares_prefixes
    for request, found in zip(requests, engine.loglikelihoods(requests), strict=True):
        assert found.loglikelihood == pytest.approx(one_by_one(gpt2, request)[0], abs=1e-4)


def test_the_scores_do_not_depend_on_the_order_of_requests(llama, tokenizer):
    requests = random_requests(6)
    engine = lm(llama, tokenizer)
    forward = engine.loglikelihoods(requests)
    assert engine.loglikelihoods(requests[::-1])[::-1] == forward


def test_padding_does_not_change_the_loglikelihood(llama, tokenizer):
    requests = random_requests(7)
    engine = lm(llama, tokenizer, shared_prefix=False, batch_tokens=200)
    for request, found in zip(requests, engine.loglikelihoods(requests), strict=True):
        assert found.loglikelihood == pytest.approx(one_by_one(llama, request)[0], abs=1e-4)


def test_every_token_that_prompts_share_is_computed_once(llama, tokenizer):
    beginning = tuple(range(100))
    requests = [
        TokenRequest((*beginning, 200 + q, 210 + q, choice, 0), 102)
        for q in range(10)
        for choice in range(300, 304)
    ]
    engine = lm(llama, tokenizer, batch_tokens=64)
    engine.loglikelihoods(requests)
    assert engine.computed_tokens == 100 + 10 * (2 + 4)


def test_the_schedule_covers_every_node_once_it_has_its_ancestors():
    for seed in range(20):
        requests = random_requests(seed)
        tree = prefix_tree.build(requests)
        for budget in (1, 16, 50):
            covered: set[int] = set()
            cached: list[int] = []
            for step in prefix_tree.schedule(tree, budget):
                cached = cached[: step.num_cached]
                present = {*cached, *step.nodes}
                assert len(cached) == step.num_cached
                assert all(tree.parents[n] in present or tree.parents[n] == -1 for n in step.nodes)
                assert all(set(cached) <= set(ancestors(tree, n)) for n in step.nodes)
                assert len(step.nodes) <= budget
                if step.keep:
                    cached = cached + step.nodes
                covered |= set(step.nodes)
            assert covered == set(range(len(tree.tokens)))


def ancestors(tree: prefix_tree.Tree, node: int) -> list[int]:
    found = []
    while tree.parents[node] >= 0:
        node = tree.parents[node]
        found.append(node)
    return found


def test_a_model_that_cannot_take_a_tree_mask_is_scored_without_sharing(tokenizer):
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(3)
    # ALiBi positions come from the two-dimensional mask, which a tree doesn't have.
    model = BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4)).eval()
    engine = lm(model, tokenizer, max_length=512)
    requests = random_requests(8)
    assert not engine.shares_prefixes
    for request, found in zip(requests, engine.loglikelihoods(requests), strict=True):
        assert found.loglikelihood == pytest.approx(one_by_one(model, request)[0], abs=1e-4)


def test_context_and_continuation_are_encoded_as_one_text_with_spaces_moved(llama, tokenizer):
    engine = lm(llama, tokenizer)
    [moved] = engine.encode_pairs([("the cat ", "sat")])
    assert list(moved.tokens) == tokenizer("the cat sat")["input_ids"]
    assert moved.first == len(tokenizer("the cat")["input_ids"])
    [empty] = engine.encode_pairs([("", "the cat")])
    assert (list(empty.tokens), empty.first) == (tokenizer("the cat")["input_ids"], 1)


def test_a_prompt_that_begins_with_the_beginning_token_gets_no_second_one(llama, tokenizer):
    assert lm(llama, tokenizer).encode(["<s>the cat", "the cat"]) == [tokenizer("the cat")["input_ids"]] * 2


def test_evaluation_mode_gives_every_module_its_own_mode_back(llama):
    llama.train()
    llama.model.layers[0].eval()
    with evaluation_mode(llama):
        assert not any(module.training for module in llama.modules())
    assert llama.training and not llama.model.layers[0].training and llama.model.layers[1].training
    llama.eval()


def test_of_equally_likely_tokens_the_first_one_is_the_greedy_one():
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    found = logprobs(logits, [0, 0, 0, 1], [0, 1, 2, 0])
    assert [greedy for _, greedy in found] == [False, True, False, True]
    torch.testing.assert_close(
        torch.tensor([value for value, _ in found]),
        torch.nn.functional.cross_entropy(
            logits[[0, 0, 0, 1]], torch.tensor([0, 1, 2, 0]), reduction="none"
        ).neg(),
    )
