"""Logits of two models on the same texts, compared position by position."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.stats import poisson
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.errors import CheckpointError, DataError

Batch = dict[str, Tensor]

FALSE_ALARM = 1e-6
"""Probability that a sound merge breaks the bound on next tokens that change."""
RIVALS = 4
"""Tokens behind the likeliest one of a position that are looked at as its successors."""


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
    flips: float
    """Positions whose likeliest token differs, as many as rounding alone is expected to make."""
    reason: str

    def wider_by(self, error: Difference, reason: str, times: tuple[int, float] = (1, 1.0)) -> "Bound":
        """A bound that allows for one more measured error, its largest and its mean so many times."""
        if error.largest == 0:
            return self
        return replace(
            self,
            largest=self.largest + times[0] * error.largest,
            mean=self.mean + times[1] * error.mean,
            reason=f"{self.reason} + {times[0]} x {error.largest:.4g} for {reason}",
        )

    @property
    def most_flips(self) -> int:
        """What rare events of this expected count exceed with a probability of FALSE_ALARM."""
        return int(poisson.isf(FALSE_ALARM, self.flips)) if self.flips > 0 else 0

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


def expected_flips(exact: Iterable[Tensor], errors: Sequence[Iterable[Tensor]]) -> float:
    """About how many positions, rather more, get another likeliest token by errors of the size measured.

    A rival overtakes the likeliest token where the difference of their two errors, taken as normal with the
    position's own mean absolute error, exceeds what lies between them. Errors of several roundings add up as
    variances.

    Args:
        exact: Logits (N, V) of the unrounded model.
        errors: For each rounding the differences (N, V) that it makes to them.
    """
    expected = 0.0
    for logits, *roundings in zip(exact, *errors, strict=True):
        best = logits.topk(min(RIVALS + 1, logits.shape[-1])).values.double()  # (N, RIVALS + 1)
        # E|e| of a normal error is sqrt(2 / pi) of its deviation, and two independent ones differ by sqrt(2).
        variance = sum(math.pi * rounding.double().abs().mean(-1).square() for rounding in roundings)
        spread = torch.as_tensor(variance).sqrt().clamp(min=torch.finfo(torch.float64).tiny)  # (N,)
        overtaken = torch.special.ndtr(-(best[:, :1] - best[:, 1:]) / spread[:, None])  # (N, RIVALS)
        expected += float(overtaken.sum(-1).clamp(max=1.0).sum())
    return expected


def close_calls(exact: Iterable[Tensor], difference: float) -> int:
    """Positions whose likeliest token could change where logits differ by up to `difference`."""
    tops = (logits.topk(2).values for logits in exact if logits.shape[-1] > 1)
    return sum(int((top[:, 0] - top[:, 1] <= 2 * difference).sum()) for top in tops)


def scale(logits: Iterable[Tensor]) -> float:
    """The largest absolute logit: what a difference is a share of."""
    return max(batch.abs().max().item() for batch in logits)
