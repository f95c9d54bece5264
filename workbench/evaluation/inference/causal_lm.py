"""Log-likelihoods from any Hugging Face causal language model, with shared beginnings computed once."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.evaluate import EvaluateConfig
from workbench.contexts import restored_modes
from workbench.evaluation.inference import encoding, prefix_tree
from workbench.evaluation.inference.masks import BOOLEAN_MASKED
from workbench.evaluation.inference.prefix_tree import Pass, TokenRequest, Tree

_INVARIANT_TOKENS = 512
"""Tokens of a pass where results must not depend on any setting."""
_WORTH_KEEPING = 32
"""A beginning of fewer tokens is computed anew for each item."""
_PROBE_LENGTH = 48
_PROBE_COLUMNS = 4096
"""Logits of each token that are compared."""
_LOGIT_CELLS = 1 << 20
"""Logits turned to float32 at once: 4 MB, which stay in a processor's cache."""
_EXACT_TOLERANCE = 0.003
_ROUNDING_TOLERANCE = 0.1
"""Largest error of a tree's logits in the probe, relative to the difference between two of its branches, in
float32 and with weights or activations rounded to 16 bits or fewer. Wrong masks and positions give more."""


@dataclass(frozen=True)
class Likelihood:
    """How likely the scored part of a request is."""

    loglikelihood: float
    """Natural logarithm, summed over the scored tokens."""
    num_tokens: int
    greedy: bool
    """Whether each scored token is the likeliest one."""


class TransformersLM:
    """A causal language model with its tokenizer.

    What is computed together changes no answer in float32 beyond rounding. In bfloat16, NF4 and int8 it moves
    log-likelihoods (by 0.12 nats between token budgets, as measured), unless `invariant` is set.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, evaluate: EvaluateConfig
    ) -> None:
        """Take a model in evaluation mode; whether it can share prompts' beginnings is tried out once."""
        self.model = model
        self.tokenizer = tokenizer
        embedding = model.get_input_embeddings().weight
        assert isinstance(embedding, Tensor)
        self.device, self.dtype, self.vocabulary = embedding.device, embedding.dtype, len(embedding)
        self.max_length = evaluate.max_length or encoding.context_length(model, tokenizer)
        self.invariant = evaluate.invariant
        self.budget = evaluate.batch_tokens or (512 if self.device.type == "cpu" else 4096)
        self.computed_tokens = 0
        """Tokens that went through the model so far."""
        self.shares_prefixes = evaluate.shared_prefix and self._can_share_prefixes()
        if self.invariant:
            self.budget = _INVARIANT_TOKENS if self.shares_prefixes else 1
        self._beginning: tuple[int, ...] = ()
        self._beginning_cache = DynamicCache()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of whole prompts."""
        return encoding.encode(self.tokenizer, texts)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]], whole_text: bool = False) -> list[TokenRequest]:
        """Requests that score each continuation after its context, as `tokens.encode_pairs` says."""
        return encoding.encode_pairs(self.tokenizer, pairs, whole_text)

    @property
    def start_token(self) -> int:
        """What stands before a text without context."""
        return encoding.start_token(self.tokenizer)

    def loglikelihoods(self, requests: Sequence[TokenRequest]) -> list[Likelihood]:
        """The likelihood of each request's scored part, in the order of the requests."""
        found = dict(self.stream(requests))
        return [found[index] for index in range(len(requests))]

    def stream(self, requests: Sequence[TokenRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Number and likelihood of each request, as soon as it is known."""
        if not self.shares_prefixes:
            yield from self._padded(requests)
            return
        tree = prefix_tree.build(requests)
        yield from self._passes(tree, requests, prefix_tree.schedule(tree, self.budget), DynamicCache())

    def alone(self, requests: Sequence[TokenRequest], num_shared: int) -> list[Likelihood]:
        """The likelihoods of one item's requests, computed with nothing else: they have the same bits always.

        Args:
            requests: of one item.
            num_shared: tokens that the item begins with and others may begin with, too; what the model makes
                of these is kept for the next item.
        """
        if not self.shares_prefixes:
            return self.loglikelihoods(requests)
        if num_shared < _WORTH_KEEPING or num_shared >= min(request.first for request in requests):
            num_shared = 0
        tree = prefix_tree.build(requests)
        steps = prefix_tree.schedule(tree, self.budget, num_shared)
        cache = self._kept(requests[0].tokens[:num_shared]) if num_shared else DynamicCache()
        found = dict(self._passes(tree, requests, steps, cache))
        return [found[index] for index in range(len(requests))]

    @torch.no_grad()
    def _kept(self, beginning: tuple[int, ...]) -> DynamicCache:
        """The cache of a beginning: the one of the item before, if that began alike."""
        length = self._beginning_cache.get_seq_length()
        if beginning != self._beginning:
            self._beginning, self._beginning_cache = beginning, DynamicCache()
            tree = prefix_tree.build([TokenRequest((*beginning, 0), len(beginning))])
            for start in range(0, len(beginning), self.budget):
                nodes = list(range(start, min(start + self.budget, len(beginning))))
                self._tree_logits(tree, Pass(nodes, start, keep=True), self._beginning_cache, [])
        elif length > len(beginning):
            self._beginning_cache.crop(len(beginning) - length)
        return self._beginning_cache

    def _passes(
        self, tree: Tree, requests: Sequence[TokenRequest], steps: Iterable[Pass], cache: DynamicCache
    ) -> Iterator[tuple[int, Likelihood]]:
        """Number and likelihood of each request, as soon as the passes have come to its end."""
        wanted = _wanted(tree, requests)
        ending: dict[int, list[int]] = {}
        for index, path in enumerate(tree.paths):
            ending.setdefault(path[-1], []).append(index)
        scored: dict[tuple[int, int], tuple[float, bool]] = {}
        for step in steps:
            cache = self._run(tree, step, cache, wanted, scored)
            for index in (index for node in step.nodes for index in ending.pop(node, ())):
                yield index, _collect(requests[index], tree.paths[index], scored)

    @torch.no_grad()
    def _run(
        self,
        tree: Tree,
        step: Pass,
        cache: DynamicCache,
        wanted: dict[int, list[int]],
        scored: dict[tuple[int, int], tuple[float, bool]],
    ) -> DynamicCache:
        """One pass: adds (log-probability, likeliest) of every wanted token after its nodes to `scored`."""
        if step.num_cached == 0:
            cache = DynamicCache()
        elif cache.get_seq_length() > step.num_cached:
            cache.crop(step.num_cached - cache.get_seq_length())
        rows = [row for row, node in enumerate(step.nodes) if node in wanted]
        logits = self._tree_logits(tree, step, cache, rows)
        pairs = [
            (place, node, token)
            for place, node in enumerate(step.nodes[row] for row in rows)
            for token in wanted[node]
        ]
        values = _logprobs(logits, [p[0] for p in pairs], [p[2] for p in pairs])
        scored.update({(node, token): value for (_, node, token), value in zip(pairs, values, strict=True)})
        return cache

    def _tree_logits(self, tree: Tree, step: Pass, cache: DynamicCache, rows: list[int]) -> Tensor:
        """Logits (len(rows), vocabulary) at some rows of a pass, whose nodes see their ancestors only."""
        ids = torch.tensor([[tree.tokens[node] for node in step.nodes]], device=self.device)  # (1, T)
        positions = torch.tensor([[tree.depths[node] for node in step.nodes]], device=self.device)  # (1, T)
        keep = torch.tensor(rows or [len(step.nodes) - 1], device=self.device)
        use_cache = step.keep or step.num_cached > 0
        self.computed_tokens += len(step.nodes)
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=self._mask(tree, step),
            position_ids=positions,
            past_key_values=cache if use_cache else None,
            use_cache=use_cache,
            logits_to_keep=keep,
        ).logits[0]
        if len(logits) == len(step.nodes) != len(keep):
            logits = logits[keep]  # the model takes logits_to_keep but doesn't heed it
        return logits[: len(rows)]

    def _mask(self, tree: Tree, step: Pass) -> Tensor | None:
        """Mask (1, 1, T, cached + T); None where the pass is one line, for plain causal order.

        True where a node sees another, for the attentions known to take that; else a number to add.
        """
        nodes = step.nodes
        if all(tree.parents[b] == a for a, b in zip(nodes, nodes[1:], strict=False)):
            return None
        numbers = torch.tensor(nodes, device=self.device)
        ends = torch.tensor([tree.ends[node] for node in nodes], device=self.device)
        seen = (numbers[:, None] >= numbers) & (numbers[:, None] < ends)  # (T, T)
        seen = torch.nn.functional.pad(seen, (step.num_cached, 0), value=True)
        if self.model.config._attn_implementation in BOOLEAN_MASKED:
            return seen[None, None]
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(self.dtype).min)[None, None]

    def _padded(self, requests: Sequence[TokenRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Likelihoods without sharing: every sequence on its own, in batches padded on the right."""
        asking: dict[tuple[int, ...], list[int]] = {}
        for index, request in enumerate(requests):
            asking.setdefault(request.tokens[:-1], []).append(index)
        for batch in encoding.batches(sorted(asking, key=lambda read: (len(read), read)), self.budget):
            for read, logits in zip(batch, self._padded_logits(batch), strict=True):
                for index in asking[read]:
                    request = requests[index]
                    places = range(request.first, len(request.tokens))
                    rows = [place - 1 for place in places]
                    yield index, _likelihood(_logprobs(logits, rows, [request.tokens[p] for p in places]))

    @torch.no_grad()
    def _padded_logits(self, batch: Sequence[tuple[int, ...]]) -> Tensor:
        """Logits (batch, longest, vocabulary)."""
        ids, mask = encoding.pad(batch, "right", self.device)
        self.computed_tokens += ids.numel()
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits

    def _can_share_prefixes(self) -> bool:
        """Whether a small tree gives the logits that its sequences give one by one."""
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        if window is not None and window < self.max_length:
            return False
        if encoding.context_length(self.model, self.tokenizer) < _PROBE_LENGTH:
            return False
        some = random.Random(0).choices(range(self.vocabulary), k=128)
        sequences = [(*some[:8], *some[start : start + 40], 0) for start in (8, 48, 88)]
        tree = prefix_tree.build([TokenRequest(sequence, 1) for sequence in sequences])
        compared = slice(0, _PROBE_COLUMNS)
        plain = torch.stack([self._padded_logits([s[:-1]])[0, :, compared] for s in sequences]).float()
        rest = range(8, len(tree.tokens))
        try:
            cache = DynamicCache()
            first = self._tree_logits(tree, Pass(list(range(8)), 0, keep=True), cache, list(range(8)))
            second = self._tree_logits(tree, Pass(list(rest), 8, keep=False), cache, list(range(len(rest))))
        except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
            return False  # the model can't take a cache, a mask of its own or logits_to_keep
        together = torch.cat([first[:, compared], second[:, compared]])
        shared = together[torch.tensor(tree.paths)].float()  # (3, 48, columns)
        self.computed_tokens = 0
        error = (shared - plain).square().mean().sqrt()
        # What a branch would get if it saw its neighbours: the order of magnitude of a wrong mask.
        wrong = (plain[0, 8:] - plain[1, 8:]).square().mean().sqrt()
        rounds = self.dtype != torch.float32 or getattr(self.model, "is_quantized", False)
        return bool(error <= (_ROUNDING_TOLERANCE if rounds else _EXACT_TOLERANCE) * wrong)


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode, and afterwards every part of it back into the mode it was in."""
    with restored_modes(model):
        model.eval()
        yield


def _wanted(tree: Tree, requests: Sequence[TokenRequest]) -> dict[int, list[int]]:
    """For each node, the tokens whose log-probability after it is asked for."""
    wanted: dict[int, dict[int, None]] = {}
    for request, path in zip(requests, tree.paths, strict=True):
        for place in range(request.first, len(request.tokens)):
            wanted.setdefault(path[place - 1], {})[request.tokens[place]] = None
    return {node: list(tokens) for node, tokens in wanted.items()}


def _collect(
    request: TokenRequest, path: list[int], scored: dict[tuple[int, int], tuple[float, bool]]
) -> Likelihood:
    places = range(request.first, len(request.tokens))
    return _likelihood([scored[path[place - 1], request.tokens[place]] for place in places])


def _likelihood(values: list[tuple[float, bool]]) -> Likelihood:
    return Likelihood(math.fsum(v for v, _ in values), len(values), all(greedy for _, greedy in values))


def _logprobs(logits: Tensor, rows: list[int], tokens: list[int]) -> list[tuple[float, bool]]:
    """Log-probability of tokens at rows of logits (N, V), in float32, and whether each is the likeliest."""
    if not rows:
        return []
    size = max(1, _LOGIT_CELLS // logits.shape[-1])
    top = logits.amax(-1)
    sums = []  # logsumexp, with the maxima that are there already
    for part, most in zip(torch.split(logits, size), torch.split(top.float(), size), strict=True):
        rest = part.to(torch.float32, copy=True).sub_(most[:, None])
        sums.append(rest.exp_().sum(-1).log_().add_(most))
    row, token = torch.tensor(rows, device=logits.device), torch.tensor(tokens, device=logits.device)
    chosen = logits[row, token]
    values = chosen.float() - torch.cat(sums)[row]
    likeliest = chosen == top[row]
    highest = likeliest.nonzero()[:, 0]  # of several that are equally high, the first one counts
    likeliest[highest] = logits[row[highest]].max(-1).indices == token[highest]
    return list(zip(values.tolist(), likeliest.tolist(), strict=True))
