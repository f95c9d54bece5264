"""Finds out by a trial which element-wise function a model applies to the output of its head.

The head's output is replaced by numbers of all magnitudes in float32, so that the trial detects a soft cap
far above the model's own logits, and tells a scale from a similar one, also in a 16-bit model.

Shapes: S tokens, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from workbench.models.ops.logit_map import IDENTITY, LogitMap
from workbench.models.trials.trial_text import trial_ids

MAGNITUDES = (1e-2, 1e3)
"""Smallest and largest magnitude of the trial's numbers: the largest is far beyond all soft caps."""
ROUNDING = 1e-5
"""Largest difference of a token's logits in float32, relative to its largest logit."""
NUM_SAMPLES = 64
"""Number of logits of a token that are compared first, which rules out most candidates."""


def find_logit_map(model: PreTrainedModel, head: nn.Module) -> LogitMap | None:
    """Find the function from the head's output to the model's logits, by forward passes of the model.

    Candidates are the identity, and scales and soft caps whose number is in the model's configuration.

    Args:
        model: A causal language model in eval mode.
        head: Its language model head.

    Returns:
        The function; None if no candidate gives the model's logits.

    Raises:
        RuntimeError: The model calls its head never, or several times.
    """
    outputs, logits = _of_probe(model, head, as_float32=True)
    for candidate in _candidates(model.config):
        if _equal(candidate(outputs[..., :NUM_SAMPLES]), logits[..., :NUM_SAMPLES]) and _equal(
            candidate(outputs), logits
        ):
            own_outputs, own_logits = _of_probe(model, head, as_float32=False)
            is_converted = own_logits.dtype == torch.float32 != own_outputs.dtype
            own = LogitMap(candidate.scale, candidate.cap, in_float32=is_converted)
            return own if _equal(own(own_outputs), own_logits) else None
    return None


def _candidates(config: PreTrainedConfig) -> Iterator[LogitMap]:
    """Yield the identity, then the scales and soft caps by numbers of the configuration."""
    yield IDENTITY
    fields = {**config.to_dict(), **config.get_text_config().to_dict()}
    numbers = {float(value) for value in fields.values() if type(value) in (int, float) and 0 < value < 1e6}
    for number in sorted(numbers - {1.0}):
        yield LogitMap(scale=number)
        yield LogitMap(scale=1 / number)
        yield LogitMap(cap=number)


def _of_probe(model: PreTrainedModel, head: nn.Module, *, as_float32: bool) -> tuple[Tensor, Tensor]:
    """Return numbers (1, S, V) and the logits that the model makes of them as its head's output."""
    outputs: list[Tensor] = []

    def replace(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        values = probe(output.shape).to(output.device)
        outputs.append(values if as_float32 else values.to(output.dtype))
        return outputs[-1]

    with _hooked(head.register_forward_hook, replace):
        logits: Tensor = model(input_ids=trial_ids(model), use_cache=False).logits
    if len(outputs) != 1:
        raise RuntimeError(f"it calls its head {len(outputs)} times")
    return outputs[0], logits


def probe(shape: torch.Size) -> Tensor:
    """Return random numbers (1, S, V) in float32; the magnitude grows from token to token."""
    smallest, largest = MAGNITUDES
    scales = torch.logspace(0, 1, shape[-2], base=largest / smallest) * smallest
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scales[:, None]


@contextmanager
def _hooked(register: Callable[..., Any], hook: Callable[..., Any]) -> Iterator[None]:
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


def _equal(first: Tensor, second: Tensor) -> bool:
    """Return whether each token's values (..., V) are equal, except for a few units of rounding."""
    if torch.equal(first, second):
        return True
    if first.shape != second.shape or not bool((first.isfinite() & second.isfinite()).all()):
        return False
    rounding = max(ROUNDING, 4 * torch.finfo(first.dtype).eps, 4 * torch.finfo(second.dtype).eps)
    first, second = first.float(), second.float()
    return bool(((first - second).abs().amax(-1) <= rounding * second.abs().amax(-1)).all())
