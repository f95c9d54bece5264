"""Computes log-likelihoods with any Hugging Face causal language model; shared prefixes are computed once."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.evaluate import EvaluateConfig
from workbench.errors import DeviceError
from workbench.evaluation.inference import encoding, prefix_tree
from workbench.evaluation.inference.language_model import LanguageModel, Likelihood
from workbench.evaluation.inference.logprobs import logprobs
from workbench.evaluation.inference.masks import BOOLEAN_MASKED
from workbench.evaluation.inference.prefix_probe import PrefixSharing
from workbench.evaluation.inference.prefix_tree import Pass, TokenRequest, Tree
from workbench.evaluation.inference.rope_lengths import RopeLengths
from workbench.evaluation.memory_fallback import repeated_on_less
from workbench.model_trials.lengths import windows

log = logging.getLogger("workbench")

_INVARIANT_TOKENS = 512
"""Token budget with `invariant`, where results must not depend on any setting."""
_LEAST_TOKENS = 16
"""Least token budget to which batches are halved when memory runs out."""
_MIN_CACHED_PREFIX = 32
"""A prefix of fewer tokens is computed again for each item."""

Scored = dict[tuple[int, int], tuple[float, bool]]
"""(node, next token) -> log-probability, and whether the token is the argmax."""


class TransformersLM(LanguageModel):
    """Causal language model whose weights are on this machine.

    In float32 a log-likelihood doesn't depend on its batch, except for rounding. In bfloat16, NF4 and int8 it
    depends on the size of batches (0.12 nats were measured), unless `invariant` is set.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, evaluate: EvaluateConfig
    ) -> None:
        """Wrap a model in evaluation mode; a few forward passes test whether it can share prefixes."""
        super().__init__(tokenizer, evaluate.max_length or encoding.context_length(model, tokenizer))
        self.model = model
        embedding = model.get_input_embeddings().weight
        assert isinstance(embedding, Tensor)
        self.device, self.dtype, self.vocabulary = embedding.device, embedding.dtype, len(embedding)
        self.invariant = evaluate.invariant
        self.budget = evaluate.batch_tokens or (512 if self.device.type == "cpu" else 4096)
        self.window: int | None = min(windows(model.config), default=None)
        self.rope = RopeLengths(model)
        self._sharing = PrefixSharing(self) if evaluate.shared_prefix else None
        self.shares_prefixes = self._sharing is not None and self._sharing.is_possible()
        self.computed_tokens = 0
        self._has_logged_cost = False
        if self.invariant:
            self.budget = _INVARIANT_TOKENS
        self._prefix: tuple[int, ...] = ()
        self._prefix_cache = DynamicCache()

    def stream(self, requests: Sequence[TokenRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Yield index and likelihood of each request, as soon as the likelihood is known, in any order."""
        can_share = [self._can_share(request) for request in requests]
        if self._sharing is not None and not any(can_share) and not self._has_logged_cost:
            self._has_logged_cost = True
            _log_cost(requests)
        for score, is_shared in ((self._shared, True), (self._padded, False)):
            indices = [index for index, can in enumerate(can_share) if can == is_shared]
            chosen = [requests[index] for index in indices]
            for index, likelihood in repeated_on_less(chosen, score, self._halve):
                yield indices[index], likelihood

    def _halve(self, _requests: Sequence[object], reason: str) -> None:
        """Halve the token budget, after memory ran out.

        Raises:
            DeviceError: The budget is at its least already, or `invariant` fixes it.
        """
        if self.invariant or self.budget < 2 * _LEAST_TOKENS:
            raise DeviceError(
                f"out of memory with {self.budget} tokens at once ({reason}; quantization=nf4 takes less)"
            )
        self._prefix, self._prefix_cache = (), DynamicCache()
        self.budget //= 2
        log.warning(
            "out of memory; %d tokens are now computed at once (the scores are the same up to rounding)",
            self.budget,
        )

    def _shared(self, requests: Sequence[TokenRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Yield index and likelihood of each request; prefixes that requests share are computed once."""
        tree = prefix_tree.build(requests)
        yield from self._passes(tree, requests, prefix_tree.schedule(tree, self.budget), DynamicCache())

    def fits_window(self, length: int) -> bool:
        """Return whether tokens of a text of `length` tokens attend to all tokens before them.

        The text fits into the model's sliding window, if it has one, and its rotary frequencies don't depend
        on its length.
        """
        return (self.window is None or length <= self.window) and self.rope.is_unchanged(length)

    def can_share(self, length: int) -> bool:
        """Return whether texts of `length` tokens can share prefixes; the first long texts start trials."""
        if self._sharing is None or not self.shares_prefixes or not self.fits_window(length):
            return False
        return self._sharing.is_exact(length)

    def _can_share(self, request: TokenRequest) -> bool:
        return self.can_share(len(request.tokens) - 1)

    def alone(self, requests: Sequence[TokenRequest], num_shared: int) -> list[Likelihood]:
        """Return the likelihoods of one item's requests, see `LanguageModel.alone`."""
        if not all(self._can_share(request) for request in requests):
            return self.loglikelihoods(requests)

        def attempt(items: list[Sequence[TokenRequest]]) -> Iterator[tuple[int, list[Likelihood]]]:
            yield 0, self._alone(items[0], num_shared)

        [(_, likelihoods)] = repeated_on_less([requests], attempt, self._halve)
        return likelihoods

    def _alone(self, requests: Sequence[TokenRequest], num_shared: int) -> list[Likelihood]:
        """Return the likelihoods of one item's requests, which can share prefixes, see `alone`."""
        if num_shared < _MIN_CACHED_PREFIX or num_shared >= min(request.first for request in requests):
            num_shared = 0
        tree = prefix_tree.build(requests)
        steps = prefix_tree.schedule(tree, self.budget, num_shared)
        cache = self._cached_prefix(requests[0].tokens[:num_shared]) if num_shared else DynamicCache()
        likelihoods = dict(self._passes(tree, requests, steps, cache))
        return [likelihoods[index] for index in range(len(requests))]

    @torch.no_grad()
    def _cached_prefix(self, prefix: tuple[int, ...]) -> DynamicCache:
        """Return the key-value cache of a prefix; the same prefix as the previous item's isn't recomputed."""
        length = self._prefix_cache.get_seq_length()
        if prefix != self._prefix:
            self._prefix, self._prefix_cache = prefix, DynamicCache()
            tree = prefix_tree.build([TokenRequest((*prefix, 0), len(prefix))])
            for start in range(0, len(prefix), self.budget):
                nodes = list(range(start, min(start + self.budget, len(prefix))))
                self.tree_logits(tree, Pass(nodes, start, keep=True), self._prefix_cache, [])
        elif length > len(prefix):
            self._prefix_cache.crop(len(prefix) - length)
        return self._prefix_cache

    def _passes(
        self, tree: Tree, requests: Sequence[TokenRequest], steps: Iterable[Pass], cache: DynamicCache
    ) -> Iterator[tuple[int, Likelihood]]:
        """Run the forward passes `steps` over a prefix tree; yield index and likelihood of each request.

        A request is yielded after the pass that contains its last node.
        """
        targets = _scored_tokens(tree, requests)
        ending: dict[int, list[int]] = {}
        for index, path in enumerate(tree.paths):
            ending.setdefault(path[-1], []).append(index)
        scored: Scored = {}
        for step in steps:
            cache = self._run(tree, step, cache, targets, scored)
            for index in (index for node in step.nodes for index in ending.pop(node, ())):
                yield index, _collect(requests[index], tree.paths[index], scored)

    @torch.no_grad()
    def _run(
        self, tree: Tree, step: Pass, cache: DynamicCache, targets: dict[int, list[int]], scored: Scored
    ) -> DynamicCache:
        """Run one forward pass; store the log-probabilities of `targets` in `scored`, and return the cache.

        `targets` has the next tokens to score after each node.
        """
        if step.num_cached == 0:
            cache = DynamicCache()
        elif cache.get_seq_length() > step.num_cached:
            cache.crop(step.num_cached - cache.get_seq_length())
        rows = [row for row, node in enumerate(step.nodes) if node in targets]
        logits = self.tree_logits(tree, step, cache, rows)
        triples = [
            (index, node, token)
            for index, node in enumerate(step.nodes[row] for row in rows)
            for token in targets[node]
        ]
        values = logprobs(logits, [index for index, _, _ in triples], [token for _, _, token in triples])
        scored.update({(node, token): value for (_, node, token), value in zip(triples, values, strict=True)})
        return cache

    def tree_logits(self, tree: Tree, step: Pass, cache: DynamicCache, rows: list[int]) -> Tensor:
        """Run a pass, in which each node attends to itself and its ancestors; return some nodes' logits.

        `rows` are the indices, within the pass, of these nodes; the logits are (len(rows), vocabulary).
        """
        ids = torch.tensor([[tree.tokens[node] for node in step.nodes]], device=self.device)  # (1, T)
        positions = torch.tensor([[tree.depths[node] for node in step.nodes]], device=self.device)  # (1, T)
        keep = torch.tensor(rows or [len(step.nodes) - 1], device=self.device)
        use_cache = step.keep or step.num_cached > 0
        self.computed_tokens += len(step.nodes)
        self.rope.reset()
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=self._mask(tree, step),
            position_ids=positions,
            past_key_values=cache if use_cache else None,
            use_cache=use_cache,
            logits_to_keep=keep,
        ).logits[0]
        if len(logits) == len(step.nodes) != len(keep):
            logits = logits[keep]  # the model accepts logits_to_keep but ignores it
        return logits[: len(rows)]

    def _mask(self, tree: Tree, step: Pass) -> Any:
        """Return a pass's attention mask (1, 1, T, cached + T), or None for a chain of nodes.

        A chain without branches needs causal order only. The mask is boolean (True: attends) for
        `BOOLEAN_MASKED` attention, otherwise additive; or what the model itself has for branches.
        """
        nodes = step.nodes
        if all(tree.parents[b] == a for a, b in zip(nodes, nodes[1:], strict=False)):
            return None
        own = getattr(self.model, "mask_of_branches", None)
        if own is not None and (mask := own(*prefix_tree.branches(tree, step))) is not None:
            return mask
        numbers = torch.tensor(nodes, device=self.device)
        ends = torch.tensor([tree.ends[node] for node in nodes], device=self.device)
        attends = (numbers[:, None] >= numbers) & (numbers[:, None] < ends)  # (T, T)
        attends = torch.nn.functional.pad(attends, (step.num_cached, 0), value=True)
        if self.model.config._attn_implementation in BOOLEAN_MASKED:
            return attends[None, None]
        mask = torch.zeros(attends.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~attends, torch.finfo(self.dtype).min)[None, None]

    def _padded(self, requests: Sequence[TokenRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Yield index and likelihood of each request, computed without sharing prefixes.

        Distinct sequences form batches padded on the right.
        """
        by_input: dict[tuple[int, ...], list[int]] = {}
        for index, request in enumerate(requests):
            by_input.setdefault(request.tokens[:-1], []).append(index)
        inputs = sorted(by_input, key=lambda tokens: (len(tokens), tokens))
        budget = 1 if self.invariant else self.budget
        for batch in self.rope.batches(inputs, budget):
            for tokens, logits in zip(batch, self.padded_logits(batch), strict=True):
                for index in by_input[tokens]:
                    request = requests[index]
                    rows = list(range(request.first - 1, len(request.tokens) - 1))
                    yield index, _likelihood(logprobs(logits, rows, list(request.tokens[request.first :])))

    @torch.no_grad()
    def padded_logits(self, batch: Sequence[tuple[int, ...]]) -> Tensor:
        """Return the logits (batch, longest, vocabulary) of token sequences, padded here on the right."""
        ids, mask = encoding.pad(batch, "right", self.device)
        self.computed_tokens += ids.numel()
        self.rope.reset()
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits


def _log_cost(requests: Sequence[TokenRequest]) -> None:
    """Log how many tokens are computed without and with shared prefixes; nothing if both are the same."""
    num_apart = sum(map(len, {request.tokens[:-1] for request in requests}))
    num_shared = len(prefix_tree.build(requests).tokens)
    if num_apart > num_shared:
        log.info(
            "without shared prefixes %s tokens of %s texts are computed instead of %s (%.1f times as many)",
            f"{num_apart:,}",
            f"{len(requests):,}",
            f"{num_shared:,}",
            num_apart / num_shared,
        )


def _scored_tokens(tree: Tree, requests: Sequence[TokenRequest]) -> dict[int, list[int]]:
    """Return node -> tokens to score after the node: the scored tokens that follow it in any request."""
    targets: dict[int, dict[int, None]] = {}
    for request, path in zip(requests, tree.paths, strict=True):
        for position in range(request.first, len(request.tokens)):
            targets.setdefault(path[position - 1], {})[request.tokens[position]] = None
    return {node: list(tokens) for node, tokens in targets.items()}


def _collect(request: TokenRequest, path: list[int], scored: Scored) -> Likelihood:
    positions = range(request.first, len(request.tokens))
    return _likelihood([scored[path[position - 1], request.tokens[position]] for position in positions])


def _likelihood(scored: list[tuple[float, bool]]) -> Likelihood:
    return Likelihood(math.fsum(p for p, _ in scored), len(scored), all(greedy for _, greedy in scored))
