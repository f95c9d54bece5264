"""Compares two models' next-token distributions on the same texts, text by text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.models.logit_comparison import BLOCK, logits


@dataclass(frozen=True, kw_only=True)
class TextDivergence:
    """How far one model's next-token distributions on a text are from those of a reference."""

    num_tokens: int
    """Number of positions whose next-token distributions are compared."""
    kl: float
    """Kullback-Leibler divergence of the model from the reference in nats, summed over the positions."""
    num_agreeing: int
    """Number of positions with the same most likely next token."""


def text_logits(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """Yield the float32 logits (T, V) of each text, on the CPU; each text is computed alone.

    Args:
        model: A causal language model in eval mode.
        rows: Token ids of each text.
    """
    for row in rows:
        ids = torch.tensor([row])
        yield torch.cat(list(logits(model, [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}])))


def divergences(first: Iterable[Tensor], second: Iterable[Tensor]) -> list[TextDivergence]:
    """Return, for each text, how far the second model's next-token distributions are from the first's.

    Args:
        first: Logits (T, V) of each text by the reference, from `text_logits`.
        second: Logits of the same texts by the other model.
    """
    return [_divergence(ours, theirs) for ours, theirs in zip(first, second, strict=True)]


def _divergence(first: Tensor, second: Tensor) -> TextDivergence:
    kl, agreeing = 0.0, 0
    for ours, theirs in zip(torch.split(first, BLOCK), torch.split(second, BLOCK), strict=True):
        logprobs, others = ours.float().log_softmax(-1), theirs.float().log_softmax(-1)
        kl += (logprobs.exp() * (logprobs - others)).double().sum().item()
        agreeing += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    return TextDivergence(num_tokens=len(first), kl=kl, num_agreeing=agreeing)
