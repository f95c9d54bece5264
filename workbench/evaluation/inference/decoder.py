"""Generates texts token by token, for a batch of prompts whose common prefix is computed once."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
import transformers
from torch import Tensor

from workbench.config.benchmark import GenerationConfig
from workbench.contexts import forked_random_state
from workbench.evaluation.inference import encoding
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.masks import BOOLEAN_MASKED
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.preallocated_cache import GrowingCache
from workbench.evaluation.inference.sampling import nucleus, penalized, sampler
from workbench.evaluation.inference.stop_rules import EndingCriteria, Endings

_ROWS = 32
"""Largest number of prompts in a batch: each step reads all weights once for the whole batch."""
_SHORT_PREFIX = 16
"""A shared prefix of fewer tokens doesn't get a forward pass of its own."""


@dataclass
class _Row:
    """A prompt and the tokens generated for it so far."""

    index: int
    prompt: list[int]
    sampler: torch.Generator
    generated: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """Token ids of the prompt and of the answer so far."""
        return self.prompt + self.generated


class Decoder:
    """Continues prompts, greedily or by sampling.

    In float32 an answer doesn't depend on the rest of its batch. In other dtypes it may, if two tokens are
    about equally likely, unless `invariant` decodes each prompt alone.
    """

    def __init__(self, lm: TransformersLM, limits: GenerationConfig, as_harness: bool = False) -> None:
        """Create a decoder.

        Args:
            lm: model and tokenizer.
            limits: sampling and end of an answer.
            as_harness: end an answer exactly where lm-evaluation-harness ends it; otherwise an answer also
                ends at the end of a turn in the tokenizer's chat template.
        """
        self.lm = lm
        self.limits = limits
        self.endings = Endings(lm.model, lm.tokenizer, limits.stop, as_harness)
        self.on_token: Callable[[Sequence[int]], None] | None = None
        """Called with the generated tokens of an answer, after each new token."""
        self.most_cached: int | None = None
        """Largest number of tokens, of prompts and answers, in a batch of several prompts; None: any."""
        self._prefix: list[int] = []
        self._prefix_cache = GrowingCache()

    def limited(self, limits: GenerationConfig) -> "Decoder":
        """Return a decoder of the same model with other limits; its answers end at the same tokens."""
        decoder = copy(self)
        decoder.limits, decoder.endings = limits, self.endings.with_stop(limits.stop)
        decoder.on_token, decoder._prefix, decoder._prefix_cache = None, [], GrowingCache()
        return decoder

    def stream(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield index and answer of each prompt, batch by batch; answers end before the first stop text.

        Args:
            prompts: token ids.
            seeds: seed of each answer's sampling; not used where the temperature is 0.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        for index, generated in self.tokens(prompts, seeds):
            yield index, self.endings.text(generated)

    def tokens(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """Yield index and generated tokens of each prompt, including the token that ended the answer.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        rows_at_once = _ROWS if self.lm.shares_prefixes and not self.lm.invariant else 1
        most_new = self.limits.max_new_tokens - 1  # the last one is not an input
        fits = [self.lm.can_share(len(prompt) + most_new) for prompt in prompts]
        for can_share in (True, False):
            order = sorted((i for i, fit in enumerate(fits) if fit == can_share), key=lambda i: prompts[i])
            # Rotary frequencies may depend on the longest row.
            size = rows_at_once if can_share or self.lm.rope.longest_unchanged is None else 1
            while order:
                end = self._batch_end([len(prompts[i]) for i in order[:size]])
                rows = [_Row(i, prompts[i], sampler(seeds[i])) for i in order[:end]]
                order = order[end:]
                self.lm.rope.reset()
                self._decode(rows, can_share) if self.lm.shares_prefixes else self._generate(rows)
                yield from ((row.index, row.generated) for row in rows)

    def _batch_end(self, lengths: Sequence[int]) -> int:
        """Return how many of the next prompts, of these lengths, are decoded as one batch."""
        if self.most_cached is None:
            return len(lengths)
        longest = accumulate((length + self.limits.max_new_tokens for length in lengths), max)
        fitting = [number * length <= self.most_cached for number, length in enumerate(longest, 1)]
        return max(1, sum(fitting))

    @torch.no_grad()
    def _decode(self, rows: list[_Row], can_share: bool) -> None:
        """Decode all rows as one batch until each has ended; new tokens are appended to a row's `generated`.

        With `can_share`, the prefix that all rows have in common is computed once.
        """
        prefix_cache = self._prefix_for(rows[0].prompt[: _shared_length(rows) if can_share else 0])
        prefix_length = prefix_cache.get_seq_length()
        separate = prefix_length > 0 and takes_beginning(
            self.lm.model
        )  # rows attend to one prefix, not to copies
        cache = GrowingCache() if separate or not prefix_length else prefix_cache.shared_by(len(rows))
        ids, mask = encoding.pad(
            [row.prompt[prefix_length:] for row in rows], "left", self.lm.device
        )  # (rows, longest)
        positions = (mask.cumsum(-1) - 1).clamp(min=0) + prefix_length
        if not separate:
            mask = torch.nn.functional.pad(mask, (prefix_length, 0), value=1)
        self.lm.computed_tokens += ids.numel()
        while True:
            logits = self.lm.model(
                input_ids=ids,
                attention_mask=_causal_mask(mask, ids.shape[1]) if separate else mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                **({"beginning": prefix_cache} if separate else {}),
            ).logits[:, -1]
            for row, token in zip(rows, self._choose(rows, logits), strict=True):
                row.generated.append(token)
                if self.on_token is not None:
                    self.on_token(row.generated)
            unfinished = [index for index, row in enumerate(rows) if not self._finished(row)]
            if not unfinished:
                return
            if len(unfinished) < len(rows):
                keep = torch.tensor(unfinished, device=self.lm.device)
                cache.batch_select_indices(keep)
                mask, positions = mask[keep], positions[keep]
                rows = [rows[index] for index in unfinished]
            ids = torch.tensor([[row.generated[-1]] for row in rows], device=self.lm.device)
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            positions = positions[:, -1:] + 1
            if self.lm.rope.is_recomputed(len(rows[0].tokens)):  # such a row is decoded alone
                ids, cache = torch.tensor([rows[0].tokens], device=self.lm.device), GrowingCache()
                mask = torch.ones_like(ids)
                positions = mask.cumsum(-1) - 1

    def _prefix_for(self, prefix: list[int]) -> GrowingCache:
        """Return the cache of a prefix; if the previous batch had the same prefix, that batch's cache."""
        if not prefix:
            return GrowingCache()
        if prefix != self._prefix:
            self._prefix, self._prefix_cache = [], GrowingCache()
            self.lm.computed_tokens += len(prefix)
            self.lm.model(
                input_ids=torch.tensor([prefix], device=self.lm.device),
                past_key_values=self._prefix_cache,
                use_cache=True,
                logits_to_keep=1,
            )
            self._prefix = prefix  # only now, as the model may run out of memory
        return self._prefix_cache

    def _choose(self, rows: list[_Row], logits: Tensor) -> list[int]:
        """Return the next token of each row: the argmax of its logits, or a sample if there is a temperature.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        _check_numbers(logits, [len(row.prompt) for row in rows])
        logits = penalized(logits, [row.tokens for row in rows], self.limits.repetition_penalty)
        if self.limits.temperature == 0:
            tokens: list[int] = logits.argmax(-1).tolist()
            return tokens
        probabilities = nucleus((logits.double() / self.limits.temperature).softmax(-1).cpu(), self.limits)
        return [
            int(torch.multinomial(distribution, 1, generator=row.sampler))
            for row, distribution in zip(rows, probabilities, strict=True)
        ]

    def _finished(self, row: _Row) -> bool:
        return len(row.generated) >= self.limits.max_new_tokens or self.endings.reached(row.generated)

    def _generate(self, rows: list[_Row]) -> None:
        """Generate each row's `generated` alone, by transformers' `generate`.

        The decoder uses it for models that can't share a prefix. A text that grows beyond the short
        frequencies of longrope is continued by a second call, which computes the text again.
        """
        model: Any = self.lm.model
        original_config = model.generation_config
        model.generation_config = self._generation_config()
        try:
            for row in rows:
                with forked_random_state():
                    torch.manual_seed(row.sampler.initial_seed())
                    most_new = self.limits.max_new_tokens
                    short = (self.lm.rope.longest_short or 0) + 1 - len(row.prompt)
                    if 0 < short < most_new:
                        self._call_generate(row, short)
                    if not row.generated or not self._finished(row):
                        self._call_generate(row, most_new - len(row.generated))
        finally:
            model.generation_config = original_config

    def _call_generate(self, row: _Row, most_new: int) -> None:
        """Append at most `most_new` tokens to the row's `generated`, by transformers' `generate`."""
        model: Any = self.lm.model
        ids = torch.tensor([row.tokens], device=self.lm.device)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most_new,
            stopping_criteria=[EndingCriteria(self.endings, len(row.prompt), self.on_token)],
        )
        for logits in output.logits:
            _check_numbers(logits, [len(row.prompt)])
        row.generated = output.sequences[0, len(row.prompt) :].tolist()
        self.lm.computed_tokens += ids.shape[1]

    def _generation_config(self) -> transformers.GenerationConfig:
        """Return the decoder's limits as a configuration for transformers' `generate`.

        Settings of the checkpoint's generation_config, such as a repetition penalty, are not in it.
        """
        do_sample = self.limits.temperature > 0
        sampling = {name: getattr(self.limits, name) for name in ("temperature", "top_k", "top_p")}
        return transformers.GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=self.limits.max_new_tokens,
            do_sample=do_sample,
            **(sampling if do_sample else {}),
            repetition_penalty=self.limits.repetition_penalty,
            eos_token_id=sorted(self.endings.tokens) or None,
            pad_token_id=min(self.endings.tokens, default=0),
            return_dict_in_generate=True,
            output_logits=True,
        )


def takes_beginning(model: torch.nn.Module) -> bool:
    """Return whether the model's code lets all rows of a batch attend to a single copy of a prefix cache."""
    supported: bool = getattr(model, "takes_beginning", False)
    return supported and getattr(model.config, "_attn_implementation", "") in BOOLEAN_MASKED


def _causal_mask(mask: Tensor, length: int) -> Tensor:
    """Return a boolean mask (rows, 1, length, K): to which tokens the last `length` tokens attend.

    `mask` (rows, K) is 1 for tokens and 0 for padding.
    """
    causal = mask.new_ones(length, mask.shape[1]).tril(mask.shape[1] - length)
    return (mask[:, None] * causal).bool()[:, None]


def _check_numbers(logits: Tensor, lengths: Sequence[int]) -> None:
    """Check that logits (rows, vocabulary) are not NaN.

    Args:
        logits: logits of the next tokens.
        lengths: length of each prompt, for the message.

    Raises:
        CheckpointError: Some logits are NaN.
    """
    is_nan = logits.isnan().any(-1).tolist()
    if any(is_nan):
        raise not_numbers(f"after a prompt of {lengths[is_nan.index(True)]} tokens")


def _shared_length(rows: Sequence[_Row]) -> int:
    """Return the number of leading tokens that all prompts share; 0 for a single row, or for a short prefix.

    Rows are sorted by prompt. At least one token of each prompt comes after the shared prefix.
    """
    first, last = rows[0].prompt, rows[-1].prompt
    common = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    shortest = min(len(row.prompt) for row in rows) - 1
    shared = min(shortest, len(first) if common is None else common)
    return shared if shared >= _SHORT_PREFIX and len(rows) > 1 else 0
