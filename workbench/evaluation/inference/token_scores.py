"""Computes the log-probability of each token of a text, and the most likely tokens in its place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.logprobs import log_normalizers
from workbench.evaluation.inference.not_numbers import not_numbers


@dataclass(frozen=True)
class TokenScore:
    """Log-probability of a token given all tokens before it, in nats."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """(token, log-probability) of the most likely tokens in its place, the most likely one first."""


def token_scores(
    lm: TransformersLM, tokens: Sequence[int], first: int, num_top: int, before_pass: Callable[[], None]
) -> list[TokenScore]:
    """Score each token from position `first` on; the text is computed alone, so that no batch changes it.

    Args:
        lm: model in evaluation mode.
        tokens: token ids of the whole text.
        first: position of the first scored token, 0 < first <= len(tokens).
        num_top: number of most likely tokens to return for each position.
        before_pass: called before each forward pass; it may raise to stop the computation.

    Raises:
        CheckpointError: The model's logits are NaN.
    """
    inputs = list(tokens[:-1])  # the last token is only scored
    in_parts = lm.can_share(len(inputs))
    size = lm.budget if in_parts else max(len(inputs), 1)
    cache = DynamicCache()
    lm.rope.reset()
    scores: list[TokenScore] = []
    for start in range(0, len(inputs), size):
        before_pass()
        ids = torch.tensor([inputs[start : start + size]], device=lm.device)
        length = ids.shape[1]
        logits = _logits(lm, ids, start, cache if in_parts else None)
        skipped = min(max(first - 1 - start, 0), length)
        targets = tokens[start + skipped + 1 : start + length + 1]
        scores += _scores(logits[skipped:], targets, num_top, len(tokens))
    return scores


@torch.no_grad()
def _logits(lm: TransformersLM, ids: Tensor, start: int, cache: DynamicCache | None) -> Tensor:
    """Return the logits (T, vocabulary) of tokens (1, T) at the positions from `start` on."""
    lm.computed_tokens += ids.shape[1]
    if cache is None:
        mask = torch.ones_like(ids)
        whole: Tensor = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return whole[0]
    positions = torch.arange(start, start + ids.shape[1], device=lm.device)[None]
    part: Tensor = lm.model(
        input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True
    ).logits
    return part[0]


def _scores(logits: Tensor, targets: Sequence[int], num_top: int, num_tokens: int) -> list[TokenScore]:
    """Return the score of each target by its row of `logits` (T, vocabulary)."""
    if not targets:
        return []
    top = logits.topk(max(1, min(num_top, logits.shape[-1])))
    normalizers = log_normalizers(logits, top.values[:, 0])
    if bool(normalizers.isnan().any()):
        raise not_numbers(f"in a text of {num_tokens} tokens")
    index = torch.tensor(targets, device=logits.device)[:, None]
    chosen = (logits.gather(-1, index)[:, 0].float() - normalizers).tolist()
    top_logprobs = (top.values.float() - normalizers[:, None]).tolist()
    return [
        TokenScore(token, logprob, tuple(zip(ids, values, strict=True))[:num_top])
        for token, logprob, ids, values in zip(
            targets, chosen, top.indices.tolist(), top_logprobs, strict=True
        )
    ]
