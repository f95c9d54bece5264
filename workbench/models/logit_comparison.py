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
"""Arguments of a model's forward: `input_ids` with `attention_mask`, or with `position_ids`."""

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
    """Largest allowed difference between the logits of two models, and where this limit comes from."""

    largest: float
    """Allowed absolute difference of a single logit."""
    mean: float
    """Allowed mean difference of all logits; far smaller than `largest`, so it detects more errors."""
    flips: float
    """Expected number of positions whose argmax changes by rounding alone."""
    reason: str
    """How `largest` was computed, for messages and reports."""

    def wider_by(self, error: Difference, reason: str, factors: tuple[int, float] = (1, 1.0)) -> "Bound":
        """Return a bound whose `largest` and `mean` are wider by those of a measured error times `factors`.

        `flips` stays. `reason` names the error's cause, and is added to the bound's reason.
        """
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
        """Return the allowed number of flips; chance (Poisson) exceeds it with at most FALSE_ALARM."""
        if not self.flips > 0:
            return 0
        most: int = math.ceil(special.pdtrik(1 - FALSE_ALARM, self.flips))
        is_one_less = most > 0 and bool(special.pdtr(most - 1, self.flips) >= 1 - FALSE_ALARM)
        return most - 1 if is_one_less else most

    def exceeded_by(self, difference: Difference) -> str | None:
        """Return a phrase for a message on the first value that exceeds the bound; None if none does."""
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
    """Difference between two models' logits that is within its bound, with the bound."""

    bound: float
    """Bound of `largest`."""
    bound_reason: str
    """How `bound` was computed."""
    mean_bound: float
    """Bound of `mean`."""
    flips_bound: int
    """Bound of `argmax_flips`."""


def check(what: str, first: Iterable[Tensor], second: Iterable[Tensor], bound: Bound) -> Check:
    """Compare two models' logits, in blocks as from `logits`; return the difference within the bound.

    Raises:
        CheckpointError: The difference exceeds the bound; `what` begins the message and names the two models.
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
    """Tokenize texts into batches of `input_ids` and `attention_mask`, both (B, S), padded on the right.

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
    """Return the texts of `encode`'s batches without padding: a batch is one row of T <= `size` tokens.

    A batch has `input_ids` and `position_ids` (1, T). Open-Llama's attention separates the texts of a row: a
    text begins where a position isn't the previous one plus 1. A text longer than `size` has its own row.
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
    """Yield a model's float32 logits on the CPU in blocks: (N, V) without padding positions, N <= `BLOCK`.

    A classifier has a row for each text: (N, labels). A block never spans two batches.

    Args:
        model: The model, in the mode (train or eval) that it has.
        batches: From `encode` or `packed`.
        device: Device of the inputs; None: that of the model's first parameter.
    """
    device = device or next(model.parameters()).device
    for batch in batches:
        output: Tensor = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
        if output.dim() == 3:
            mask = batch.get("attention_mask")
            output = output.flatten(0, 1) if mask is None else output[mask.bool().to(device)]
        yield from torch.split(output.float().cpu(), BLOCK)


def compare(first: Iterable[Tensor], second: Iterable[Tensor]) -> Difference:
    """Measure the difference between two models' logits, given as at least one block (N, V) of each.

    The two models' blocks have the same number and shapes.
    """
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
        exact: Blocks of logits (N, V) of the unrounded model.
        errors: For each rounding, blocks (N, V) of the errors of these logits.
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
    """Count positions whose argmax could change if each logit changes by up to `difference`.

    `exact` has blocks of logits (N, V); with V = 1 no position counts.
    """
    tops = (logits.topk(2).values for logits in exact if logits.shape[-1] > 1)
    return sum(int((top[:, 0] - top[:, 1] <= 2 * difference).sum()) for top in tops)


def scale(logits: Iterable[Tensor]) -> float:
    """Return the largest absolute logit of at least one block."""
    return max(batch.abs().max().item() for batch in logits)
