"""Measures speed and memory of a model in each number format, each time in a new process."""

import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from statistics import median

import torch

from workbench.config import QuantizationConfig
from workbench.config.inspection.quantization_report import NumberFormat
from workbench.config.model import ModelConfig
from workbench.errors import WorkbenchError
from workbench.models import loading, speed
from workbench.models.speed import Speed
from workbench.progress import Progress

log = logging.getLogger("workbench")

PROMPT_TOKENS, DECODED_TOKENS = 256, 32
Loaded = tuple[ModelConfig, QuantizationConfig]


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Speed in one number format: medians over the rounds, and the rounds themselves."""

    prompt_tokens_per_second: float
    """Tokens per second at which a prompt is read."""
    decoded_tokens_per_second: float
    """Tokens per second that are generated, one after the other."""
    peak_bytes: int
    """Peak memory of the process that loads and runs the model."""
    rounds: list[Speed]


def alternate(
    ways: Mapping[NumberFormat, Loaded], prompt: Sequence[int], rounds: int
) -> dict[NumberFormat, Speeds]:
    """Measure each number format's speed once a round, each in a new process; return the medians.

    A number format whose process fails once is left out with a warning.

    Args:
        ways: Number format -> how the model is loaded.
        prompt: Token ids.
        rounds: Number of rounds.
    """
    measured: dict[NumberFormat, list[Speed]] = {number_format: [] for number_format in ways}
    with Progress("speed", rounds * len(ways), unit="measurements") as bar:
        for _ in range(rounds):
            for number_format in list(measured):
                outcome = _in_process(ways[number_format], prompt)
                if isinstance(outcome, Speed):
                    measured[number_format].append(outcome)
                else:
                    log.warning(
                        "quantization-report: speed of %s not measured: %s", number_format.value, outcome
                    )
                    del measured[number_format]
                bar.advance(1)
    return {number_format: _median(own) for number_format, own in measured.items() if own}


def prompt_of(rows: Sequence[Sequence[int]], context: int | None) -> list[int]:
    """Return the ids of a prompt of PROMPT_TOKENS tokens, at most half the context: probe texts, repeated.

    Args:
        rows: Token ids of the probe texts, at least one token.
        context: Tokens in the model's context; None: unknown.
    """
    tokens = [token for row in rows for token in row]
    length = min(PROMPT_TOKENS, context // 2 if context else PROMPT_TOKENS)
    return (tokens * (length // len(tokens) + 1))[:length]


def _median(rounds: list[Speed]) -> Speeds:
    return Speeds(
        prompt_tokens_per_second=median(one.prompt_tokens_per_second for one in rounds),
        decoded_tokens_per_second=median(one.decoded_tokens_per_second for one in rounds),
        peak_bytes=round(median(one.peak_bytes for one in rounds)),
        rounds=rounds,
    )


def _in_process(loaded: Loaded, prompt: Sequence[int]) -> Speed | str:
    """Load and measure the model in a new process; return its speed, or why that failed."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = _new_process(loaded, list(prompt), sender)
    process.start()
    sender.close()
    try:
        outcome: Speed | str = receiver.recv()
    except EOFError:
        outcome = "its process was killed (is there enough memory?)"
    process.join()
    return outcome


def _new_process(loaded: Loaded, prompt: list[int], sender: Connection) -> BaseProcess:
    """Return a process, not yet started, that measures the model.

    Without a GPU it is forked from a server process that has loaded the libraries.
    """
    arguments = (loaded, prompt, sender)
    if torch.cuda.is_available() or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn").Process(target=_measure, args=arguments, daemon=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([loading.__name__, speed.__name__])
    return context.Process(target=_measure, args=arguments, daemon=True)


def _measure(loaded: Loaded, prompt: list[int], sender: Connection) -> None:
    """Load and measure the model; send its speed, or the reason why that failed."""
    try:
        sender.send(speed.measure_speed(loading.load_model(*loaded), prompt, DECODED_TOKENS))
    except WorkbenchError as error:
        sender.send(str(error))
