"""Measures how fast a loaded model computes a prompt and decodes tokens, and its peak memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.machine import peak_resident_bytes
from workbench.models.ops.prepacked_linear import prepacked

LEAST_SECONDS = 0.5
"""Shortest time for which the prompt is computed repeatedly."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed at batch size 1 on this machine."""

    prompt_tokens_per_second: float
    decoded_tokens_per_second: float
    """Tokens decoded greedily, one after the other."""
    peak_bytes: int
    """Peak memory since the start: of the process on a CPU, of the GPU's memory on CUDA. Includes loading
    the model."""


def measure_speed(model: PreTrainedModel, prompt: Sequence[int], num_decoded: int) -> Speed:
    """Time the forward pass of a prompt, and decoding after it; the first pass of each isn't counted.

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
    """Compute a prompt; return its cache and the most likely next token (1, 1)."""
    output = model(input_ids=ids, use_cache=True)
    return output.past_key_values, output.logits[:, -1:].argmax(-1)


def _write(model: PreTrainedModel, cache: object, token: Tensor) -> None:
    """Decode one token: append `token` to the cache, then replace it in place by its successor."""
    output = model(input_ids=token, past_key_values=cache, use_cache=True)
    token.copy_(output.logits[:, -1:].argmax(-1))


def _rate(step: Callable[[], object], num_tokens: int, device: torch.device, count: int = 0) -> float:
    """Return tokens per second of a step that computes `num_tokens`.

    The step is repeated `count` times; with 0, at least twice and for LEAST_SECONDS.
    """
    step()
    _wait(device)
    start, done = time.perf_counter(), 0
    while done < count or (not count and (done < 2 or time.perf_counter() - start < LEAST_SECONDS)):
        step()
        _wait(device)
        done += 1
    return done * num_tokens / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    """Wait until the GPU has finished, if the device is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
