"""Context managers that restore settings of transformers and modes of models."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off transformers' progress bars and log messages below ERROR during the block."""
    verbosity, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """After the block, set every module of the model back to the mode (train or eval) that it has now."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def without_panics() -> Iterator[None]:
    """Hide the backtrace that a Rust library writes to stderr when it panics; the exception passes through.

    All that the process writes to stderr (descriptor 2) during the block is withheld until the block ends,
    and is then written, unless the block raised a PanicException.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        terminal = os.dup(2)
        os.dup2(written.fileno(), 2)
        panicked = False
        try:
            yield
        except BaseException as error:
            panicked = type(error).__name__ == "PanicException"
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            if not panicked:
                written.seek(0)
                os.write(2, written.read())
            os.close(terminal)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode during the block; then set every module back to its earlier mode."""
    with restored_modes(model):
        model.eval()
        yield


@contextmanager
def forked_random_state() -> Iterator[None]:
    """After the block, restore PyTorch's random state of the CPU and of this process's GPU, if there is one.

    Without a list of devices, `fork_rng` starts CUDA on all GPUs of the machine, which takes memory on each.
    """
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    with torch.random.fork_rng(devices=[rank] if rank < torch.cuda.device_count() else []):
        yield
