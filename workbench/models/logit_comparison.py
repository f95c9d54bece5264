"""Compares the logits of two models on the same texts, position by position."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from scipy import special
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.errors import CheckpointError, DataError

Batch = dict[str, Tensor]

FALSE_ALARM = 1e-6
"""Probability that a correct merge exceeds the bound on changed argmax tokens."""
BLOCK = 32
"""Number of positions whose logits are compared at a time."""
RUNNERS_UP = 4
"""Number of tokens after the argmax, ranked by logit, that may become the argmax."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference between the logits of two models."""

    largest: float
    """Largest absolute difference of two logits; infinite if one of them is not finite."""
    mean: float
    """Mean absolute difference of two logits."""
    argmax_flips: int
    """Number of positions whose argmax token (or label) differs."""
    kl: float
    """Mean Kullback-Leibler divergence of the second model from the first, in nats per position."""
    num_positions: int
    """Number of positions compared: all tokens without padding, or one per text for a classifier."""


@dataclass(frozen=True)
class Bound:
    """Largest allowed difference between the logits of two models, with the reason for it."""

    largest: float
    """Allowed absolute difference of a single logit."""
    mean: float
    """Allowed mean difference of all logits; far smaller than `largest`, so it detects more errors."""
    flips: float
    """Expected number of positions whose argmax changes by rounding alone."""
    reason: str

    def wider_by(self, error: Difference, reason: str, factors: tuple[int, float] = (1, 1.0)) -> "Bound":
        """Return the bound plus a measured error, whose largest and mean are multiplied by `factors`."""
        if error.largest == 0:
            return self
        return replace(
            self,
            largest=self.largest + factors[0] * error.largest,
            mean=self.mean + factors[1] * error.mean,
            reason=f"{self.reason} + {factors[0]} x {error.largest:.4g} for {reason}",
        )

    @property
    def most_flips(self) -> int:
        """Largest allowed number of flips, which chance (Poisson) exceeds with probability FALSE_ALARM."""
        if not self.flips > 0:
            return 0
        most: int = math.ceil(special.pdtrik(1 - FALSE_ALARM, self.flips))
        is_one_less = most > 0 and bool(special.pdtr(most - 1, self.flips) >= 1 - FALSE_ALARM)
        return most - 1 if is_one_less else most

    def exceeded_by(self, difference: Difference) -> str | None:
        """Explain which value exceeds the bound; None if the difference is within the bound."""
        if not difference.largest <= self.largest:
            return f"by up to {difference.largest:.4g} per logit (at most {self.largest:.4g}: {self.reason})"
        if difference.mean > self.mean:
            return (
                f"by {difference.mean:.4g} per logit on average "
                f"(at most {self.mean:.4g}, from measured rounding errors)"
            )
        if difference.argmax_flips > self.most_flips:
            positions = f"{difference.argmax_flips} of {difference.num_positions} positions"
            return f"in the most likely token of {positions} (at most {self.most_flips})"
        return None


@dataclass(frozen=True, kw_only=True)
class Check(Difference):
    """A difference that is within its bound, with the bound."""

    bound: float
    """Bound of the largest difference."""
    bound_reason: str
    mean_bound: float
    flips_bound: int


def check(what: str, first: Iterable[Tensor], second: Iterable[Tensor], bound: Bound) -> Check:
    """Compare two models' logits; return the difference if it is within the bound.

    Raises:
        CheckpointError: The difference exceeds the bound; `what` says which models differ.
    """
    difference = compare(first, second)
    excess = bound.exceeded_by(difference)
    if excess:
        raise CheckpointError(f"merge: {what} {excess} on the probe texts, so nothing is published")
    return Check(
        **vars(difference),
        bound=bound.largest,
        bound_reason=bound.reason,
        mean_bound=bound.mean,
        flips_bound=bound.most_flips,
    )


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int, batch_size: int) -> list[Batch]:
    """Tokenize texts into batches of `input_ids` and `attention_mask`, (B, S), padded on the right.

    Args:
        tokenizer: Tokenizer of the model; without a padding token each batch has one text.
        texts: Texts of white space only are skipped.
        length: Texts are truncated to this number of tokens.
        batch_size: Texts per batch.

    Raises:
        DataError: All texts are blank.
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError("merge: all probe texts are blank, so the merged model can't be verified")
    size = batch_size if tokenizer.pad_token_id is not None else 1
    rows = [tokenizer(text, truncation=True, max_length=length)["input_ids"] for text in texts]
    return [_padded(rows[i : i + size], tokenizer.pad_token_id or 0) for i in range(0, len(rows), size)]


def _padded(rows: list[list[int]], pad: int) -> Batch:
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def packed(batches: list[Batch], size: int) -> list[Batch]:
    """Return the same texts without padding, in rows of `input_ids` and `position_ids` (1, T), T <= `size`.

    Open-Llama's attention keeps the texts of a row apart: a text begins where a position isn't the previous
    one plus 1. A text longer than `size` has a row of its own.
    """
    rows: list[list[Tensor]] = []
    left = 0
    for batch in batches:
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
            text = ids[mask]
            if len(text) > left:
                rows.append([])
                left = size
            rows[-1].append(text)
            left -= len(text)
    return [
        {
            "input_ids": torch.cat(texts)[None],
            "position_ids": torch.cat([torch.arange(len(text)) for text in texts])[None],
        }
        for texts in rows
    ]


@torch.no_grad()
def logits(
    model: torch.nn.Module, batches: list[Batch], device: torch.device | None = None
) -> Iterator[Tensor]:
    """Yield float32 logits in blocks: (N, V) without padding positions, or a classifier's (N, labels).

    A block has at most `BLOCK` rows of one batch, which comes from `encode` or `packed`. `device` is where
    the model computes; None: where its first parameter is.
    """
    device = device or next(model.parameters()).device
    for batch in batches:
        output: Tensor = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
        if output.dim() == 3:
            mask = batch.get("attention_mask")
            output = output.flatten(0, 1) if mask is None else output[mask.bool().to(device)]
        yield from torch.split(output.float().cpu(), BLOCK)


def compare(first: Iterable[Tensor], second: Iterable[Tensor]) -> Difference:
    """Measure the difference of two models' logits over all batches."""
    largest = total = kl = 0.0
    flips = positions = count = 0
    for first_logits, second_logits in zip(first, second, strict=True):
        distance = (first_logits - second_logits).abs().nan_to_num(torch.inf, torch.inf)
        largest = max(largest, distance.max().item())
        total += distance.double().sum().item()
        count += distance.numel()
        flips += int((first_logits.argmax(-1) != second_logits.argmax(-1)).sum())
        positions += len(first_logits)
        logprobs, other_logprobs = (
            first_logits.double().log_softmax(-1),
            second_logits.double().log_softmax(-1),
        )
        kl += (logprobs.exp() * (logprobs - other_logprobs)).sum().item()
    return Difference(
        largest=largest, mean=total / count, argmax_flips=flips, kl=kl / positions, num_positions=positions
    )


def expected_flips(exact: Iterable[Tensor], errors: Sequence[Iterable[Tensor]]) -> float:
    """Estimate, from above, the number of positions whose argmax changes by errors of the measured size.

    A runner-up becomes the argmax if the difference of the two logits' errors exceeds the gap between the
    logits. Errors are modelled as normal, with the mean absolute error of their position. The variances of
    several roundings add up.

    Args:
        exact: Logits (N, V) of the unrounded model.
        errors: For each rounding, its errors (N, V).
    """
    expected = 0.0
    for logits, *roundings in zip(exact, *errors, strict=True):
        best = logits.topk(min(RUNNERS_UP + 1, logits.shape[-1])).values.double()  # (N, RUNNERS_UP + 1)
        # E|e| is sqrt(2 / pi) standard deviations; the difference of two independent errors has sqrt(2).
        variance = sum(math.pi * rounding.double().abs().mean(-1).square() for rounding in roundings)
        spread = torch.as_tensor(variance).sqrt().clamp(min=torch.finfo(torch.float64).tiny)  # (N,)
        overtaken = torch.special.ndtr(-(best[:, :1] - best[:, 1:]) / spread[:, None])  # (N, RUNNERS_UP)
        expected += float(overtaken.sum(-1).clamp(max=1.0).sum())
    return expected


def close_calls(exact: Iterable[Tensor], difference: float) -> int:
    """Count positions whose argmax could change if logits differ by up to `difference`."""
    tops = (logits.topk(2).values for logits in exact if logits.shape[-1] > 1)
    return sum(int((top[:, 0] - top[:, 1] <= 2 * difference).sum()) for top in tops)


def scale(logits: Iterable[Tensor]) -> float:
    """Return the largest absolute logit."""
    return max(batch.abs().max().item() for batch in logits)
