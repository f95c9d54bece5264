"""Logits of two models on the same texts, compared position by position."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.errors import CheckpointError, DataError

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far the second of two models is from the first."""

    largest: float
    """Largest absolute difference of two logits; infinite where one of them is not finite."""
    mean: float
    """Mean absolute difference of two logits."""
    argmax_flips: int
    """Positions whose likeliest token (or label) differs."""
    kl: float
    """Mean Kullback-Leibler divergence of the second from the first, in nats a position."""
    num_positions: int
    """Positions compared: all real tokens, or one a text for a classifier."""


@dataclass(frozen=True)
class Bound:
    """How large a difference may be, and why."""

    largest: float
    """Of a logit."""
    mean: float
    """Of all logits: what all of them say together, far tighter than what the unluckiest one does."""
    flips: int
    """Positions whose likeliest token differs, as many as rounding alone makes."""
    reason: str

    def wider_by(self, error: Difference, reason: str, times: tuple[int, float] = (1, 1.0)) -> "Bound":
        """A bound that allows for one more measured error, its largest and its mean so many times."""
        if error.largest == 0:
            return self
        return Bound(
            self.largest + times[0] * error.largest,
            self.mean + times[1] * error.mean,
            self.flips + error.argmax_flips,
            f"{self.reason} + {times[0]} x {error.largest:.4g} for {reason}",
        )

    @property
    def most_flips(self) -> int:
        """Three standard deviations above a count of rare events, and three more for counts near zero."""
        return self.flips + math.ceil(3 * math.sqrt(self.flips)) + 3

    def broken_by(self, found: Difference) -> str | None:
        """What is too large, with both values."""
        if not found.largest <= self.largest:
            return f"by up to {found.largest:.4g} a logit (at most {self.largest:.4g}: {self.reason})"
        if found.mean > self.mean:
            return f"by {found.mean:.4g} a logit on average (at most {self.mean:.4g}, from measured rounding)"
        if found.argmax_flips > self.most_flips:
            return f"in {found.argmax_flips} of {found.num_positions} next tokens (at most {self.most_flips})"
        return None


@dataclass(frozen=True, kw_only=True)
class Check(Difference):
    """A difference that is within its bound."""

    bound: float
    """Of the largest difference."""
    bound_reason: str
    mean_bound: float
    flips_bound: int


def check(what: str, first: list[Tensor], second: list[Tensor], bound: Bound) -> Check:
    """The difference of two models' logits, if it is within its bound.

    Raises:
        CheckpointError: it isn't.
    """
    found = compare(first, second)
    broken = bound.broken_by(found)
    if broken:
        raise CheckpointError(f"merge: {what} {broken} on the probe texts, so nothing is published")
    return Check(
        **vars(found),
        bound=bound.largest,
        bound_reason=bound.reason,
        mean_bound=bound.mean,
        flips_bound=bound.most_flips,
    )


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int, batch_size: int) -> list[Batch]:
    """Batches of `input_ids` and `attention_mask`, (B, S), padded on the right.

    Args:
        tokenizer: The model's; without a padding token each text becomes a batch of its own.
        texts: Those of white space only are left out.
        length: Tokens kept of each text.
        batch_size: Texts of a batch.

    Raises:
        DataError: no text is left.
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError("merge: no probe text holds more than white space, so nothing can be proven")
    size = batch_size if tokenizer.pad_token_id is not None else 1
    rows = [tokenizer(text, truncation=True, max_length=length)["input_ids"] for text in texts]
    return [_padded(rows[i : i + size], tokenizer.pad_token_id or 0) for i in range(0, len(rows), size)]


def _padded(rows: list[list[int]], pad: int) -> Batch:
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def logits(model: torch.nn.Module, batches: list[Batch]) -> Iterator[Tensor]:
    """For each batch the float32 logits of its real positions (N, V), or of its texts (B, labels)."""
    device = next(model.parameters()).device
    for batch in batches:
        output: Tensor = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
        kept = output[batch["attention_mask"].bool().to(device)] if output.dim() == 3 else output
        yield kept.float().cpu()


def compare(first: Iterable[Tensor], second: Iterable[Tensor]) -> Difference:
    """How far the second model's logits are from the first one's, over all batches."""
    largest = total = kl = 0.0
    flips = positions = count = 0
    for one, two in zip(first, second, strict=True):
        distance = (one - two).abs().nan_to_num(torch.inf, torch.inf)
        largest = max(largest, distance.max().item())
        total += distance.double().sum().item()
        count += distance.numel()
        flips += int((one.argmax(-1) != two.argmax(-1)).sum())
        positions += len(one)
        before, after = one.double().log_softmax(-1), two.double().log_softmax(-1)
        kl += (before.exp() * (before - after)).sum().item()
    return Difference(
        largest=largest, mean=total / count, argmax_flips=flips, kl=kl / positions, num_positions=positions
    )


def scale(logits: Iterable[Tensor]) -> float:
    """The largest absolute logit: what a difference is a share of."""
    return max(batch.abs().max().item() for batch in logits)
