"""Generates texts token by token, for a batch of prompts whose common beginning is computed once."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.inference import encoding
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.masks import BOOLEAN_MASKED
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.preallocated_cache import GrowingCache
from workbench.evaluation.inference.stop_rules import EndingCriteria, Endings

_ROWS = 32
"""Prompts decoded together: each step reads all weights once for all of them."""
_SHORT_PREFIX = 16
"""A shared beginning of fewer tokens isn't worth a pass of its own."""


@dataclass
class _Row:
    """One prompt in the making of its answer."""

    index: int
    prompt: list[int]
    sampler: torch.Generator
    made: list[int] = field(default_factory=list)


class Decoder:
    """Greedy or sampled continuation of prompts.

    In float32 an answer doesn't depend on what is decoded together. In other dtypes it may, where two tokens
    are about equally likely, unless `invariant` decodes each prompt alone.
    """

    def __init__(self, lm: TransformersLM, limits: GenerationConfig, as_harness: bool = False) -> None:
        """Take the model and the limits of an answer.

        Args:
            lm: the model and its tokenizer.
            limits: of an answer.
            as_harness: an answer ends exactly where lm-evaluation-harness ends it; otherwise also at the end
                of a turn in the tokenizer's chat template.
        """
        self.lm = lm
        self.limits = limits
        self.endings = Endings(lm.model, lm.tokenizer, limits.stop, as_harness)
        self.on_token: Callable[[Sequence[int]], None] | None = None
        """Called with the tokens of an answer so far, whenever one is added."""
        self._prefix: list[int] = []
        self._prefix_cache = GrowingCache()

    def stream(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Number of each prompt and the answer to it, cut before the first stop text.

        Args:
            prompts: token numbers.
            seeds: what each answer's sampling depends on, and on nothing else.
        """
        for index, made in self.tokens(prompts, seeds):
            yield index, self.endings.text(made)

    def tokens(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """The same as the generated tokens, with the one that ended the answer."""
        order = sorted(range(len(prompts)), key=lambda i: prompts[i])
        rows_at_once = _ROWS if self.lm.shares_prefixes and not self.lm.invariant else 1
        for start in range(0, len(order), rows_at_once):
            rows = [_Row(i, prompts[i], _sampler(seeds[i])) for i in order[start : start + rows_at_once]]
            self._decode(rows) if self.lm.shares_prefixes else self._generate(rows)
            yield from ((row.index, row.made) for row in rows)

    @torch.no_grad()
    def _decode(self, rows: list[_Row]) -> None:
        """Fills `made` of every row."""
        beginning = self._prefix_for(rows[0].prompt[: _shared(rows)])
        held = beginning.get_seq_length()
        apart = held > 0 and takes_beginning(self.lm.model)
        cache = GrowingCache() if apart or not held else beginning.shared_by(len(rows))
        ids, mask = encoding.pad(
            [row.prompt[held:] for row in rows], "left", self.lm.device
        )  # (rows, longest)
        positions = (mask.cumsum(-1) - 1).clamp(min=0) + held
        if not apart:
            mask = torch.nn.functional.pad(mask, (held, 0), value=1)
        self.lm.computed_tokens += ids.numel()
        while True:
            logits = self.lm.model(
                input_ids=ids,
                attention_mask=_seen(mask, ids.shape[1]) if apart else mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                **({"beginning": beginning} if apart else {}),
            ).logits[:, -1]
            for row, token in zip(rows, self._choose(rows, logits), strict=True):
                row.made.append(token)
                if self.on_token is not None:
                    self.on_token(row.made)
            going = [place for place, row in enumerate(rows) if not self._finished(row)]
            if not going:
                return
            if len(going) < len(rows):
                keep = torch.tensor(going, device=self.lm.device)
                cache.batch_select_indices(keep)
                mask, positions = mask[keep], positions[keep]
                rows = [rows[place] for place in going]
            ids = torch.tensor([[row.made[-1]] for row in rows], device=self.lm.device)
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            positions = positions[:, -1:] + 1

    def _prefix_for(self, prefix: list[int]) -> GrowingCache:
        """A cache of the shared beginning, computed unless the batch before had the same one."""
        if not prefix:
            return GrowingCache()
        if prefix != self._prefix:
            self._prefix, self._prefix_cache = prefix, GrowingCache()
            self.lm.computed_tokens += len(prefix)
            self.lm.model(
                input_ids=torch.tensor([prefix], device=self.lm.device),
                past_key_values=self._prefix_cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return self._prefix_cache

    def _choose(self, rows: list[_Row], logits: Tensor) -> list[int]:
        """The next token of each row.

        Raises:
            CheckpointError: the model's logits are not numbers.
        """
        _check_numbers(logits, [len(row.prompt) for row in rows])
        if self.limits.temperature == 0:
            chosen: list[int] = logits.argmax(-1).tolist()
            return chosen
        weights = _nucleus((logits.double() / self.limits.temperature).softmax(-1).cpu(), self.limits)
        return [
            int(torch.multinomial(weight, 1, generator=row.sampler))
            for row, weight in zip(rows, weights, strict=True)
        ]

    def _finished(self, row: _Row) -> bool:
        return len(row.made) >= self.limits.max_new_tokens or self.endings.reached(row.made)

    def _generate(self, rows: list[_Row]) -> None:
        """The same through the model's own `generate`, one by one, for models whose cache can't be shared."""
        model: Any = self.lm.model
        theirs = model.generation_config
        model.generation_config = self._limits_alone()
        try:
            for row in rows:
                ids = torch.tensor([row.prompt], device=self.lm.device)
                with torch.random.fork_rng():
                    torch.manual_seed(row.sampler.initial_seed())
                    made = model.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        stopping_criteria=[EndingCriteria(self.endings, len(row.prompt), self.on_token)],
                    )
                for logits in made.logits:
                    _check_numbers(logits, [len(row.prompt)])
                row.made = made.sequences[0, len(row.prompt) :].tolist()
                self.lm.computed_tokens += len(row.prompt)
        finally:
            model.generation_config = theirs

    def _limits_alone(self) -> transformers.GenerationConfig:
        """Without what a checkpoint's own adds, such as a penalty on repetition."""
        sampled = self.limits.temperature > 0
        drawn = {name: getattr(self.limits, name) for name in ("temperature", "top_k", "top_p")}
        return transformers.GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=self.limits.max_new_tokens,
            do_sample=sampled,
            **(drawn if sampled else {}),
            eos_token_id=sorted(self.endings.tokens) or None,
            pad_token_id=min(self.endings.tokens, default=0),
            return_dict_in_generate=True,
            output_logits=True,
        )


def takes_beginning(model: torch.nn.Module) -> bool:
    """Whether the model attends to a beginning that all rows share where it lies, instead of to copies."""
    known: bool = getattr(model, "takes_beginning", False)
    return known and getattr(model.config, "_attn_implementation", "") in BOOLEAN_MASKED


def _seen(mask: Tensor, length: int) -> Tensor:
    """Which keys the last `length` tokens see, (rows, 1, length, K); none sees a pad of `mask` (rows, K)."""
    causal = mask.new_ones(length, mask.shape[1]).tril(mask.shape[1] - length)
    return (mask[:, None] * causal).bool()[:, None]


def _check_numbers(logits: Tensor, lengths: Sequence[int]) -> None:
    """Raise CheckpointError where logits (rows, vocabulary) are no numbers; `lengths` are of the prompts."""
    bad = logits.isnan().any(-1).tolist()
    if any(bad):
        raise not_numbers(f"after a prompt of {lengths[bad.index(True)]} tokens")


def _shared(rows: Sequence[_Row]) -> int:
    """Tokens that all prompts begin with; at least one token of each is left over. Rows are sorted."""
    first, last = rows[0].prompt, rows[-1].prompt
    common = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    shortest = min(len(row.prompt) for row in rows) - 1
    shared = min(shortest, len(first) if common is None else common)
    return shared if shared >= _SHORT_PREFIX and len(rows) > 1 else 0


def _nucleus(weights: Tensor, limits: GenerationConfig) -> Tensor:
    """Probabilities (rows, vocabulary) with 0 for the tokens that `top_k` and then `top_p` leave out.

    Source: the nucleus is arXiv:1904.09751, section 3.1; the order of the two is that of transformers.
    """
    if limits.top_k:
        least = weights.topk(min(limits.top_k, weights.shape[-1])).values[:, -1:]
        weights = weights.where(weights >= least, 0)
    if limits.top_p < 1:
        ordered, places = (weights / weights.sum(-1, keepdim=True)).sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(-1) - ordered >= limits.top_p  # the likeliest is always inside
        weights = weights.masked_fill(outside.gather(-1, places.argsort(-1)), 0)
    return weights


def _sampler(seed: str) -> torch.Generator:
    number = int.from_bytes(hashlib.sha256(seed.encode("utf-8")).digest()[:7], "big")
    return torch.Generator().manual_seed(number)
