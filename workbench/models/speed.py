"""Measures how fast a loaded model reads a prompt and writes tokens, and the memory that this takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.machine import peak_resident_bytes
from workbench.models.ops.prepacked_linear import prepacked

LEAST_SECONDS = 0.5
"""Time over which a prompt is repeated."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed of one prompt alone (batch size 1), on this machine."""

    prompt_tokens_per_second: float
    decoded_tokens_per_second: float
    """Tokens written one after the other, greedily."""
    peak_bytes: int
    """Peak memory of the process on a CPU, of the GPU's memory on CUDA; with that of loading the model."""


def measure_speed(model: PreTrainedModel, prompt: Sequence[int], num_decoded: int) -> Speed:
    """Time a prompt, and the tokens that follow it; the first pass of each is not counted.

    Args:
        model: A causal language model in eval mode.
        prompt: Token ids.
        num_decoded: Tokens to decode after the prompt.
    """
    ids = torch.tensor([list(prompt)], device=model.device)
    with torch.no_grad(), prepacked():
        prompts = _rate(lambda: _read(model, ids), len(prompt), model.device)
        cache, token = _read(model, ids)
        decoded = _rate(lambda: _write(model, cache, token), 1, model.device, num_decoded)
    is_cuda = model.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(model.device) if is_cuda else peak_resident_bytes()
    return Speed(prompt_tokens_per_second=prompts, decoded_tokens_per_second=decoded, peak_bytes=peak)


def _read(model: PreTrainedModel, ids: Tensor) -> tuple[object, Tensor]:
    """Return the cache after the prompt and the most likely next token, (1, 1)."""
    output = model(input_ids=ids, use_cache=True)
    return output.past_key_values, output.logits[:, -1:].argmax(-1)


def _write(model: PreTrainedModel, cache: object, token: Tensor) -> None:
    """Decode one token; the cache grows by the token before it, which is replaced by its successor."""
    output = model(input_ids=token, past_key_values=cache, use_cache=True)
    token.copy_(output.logits[:, -1:].argmax(-1))


def _rate(step: Callable[[], object], num_tokens: int, device: torch.device, count: int = 0) -> float:
    """Return tokens per second of a step, repeated `count` times; 0: over LEAST_SECONDS, twice at least."""
    step()
    _wait(device)
    start, done = time.perf_counter(), 0
    while done < count or (not count and (done < 2 or time.perf_counter() - start < LEAST_SECONDS)):
        step()
        _wait(device)
        done += 1
    return done * num_tokens / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    """Wait until a GPU has computed what was started."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
