"""Context managers that restore settings of transformers and modes of models."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and warnings during the block; errors are raised as usual."""
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
    """Restore each module's mode (train or eval) after the block."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def without_panics() -> Iterator[None]:
    """Hide the backtrace that a Rust library writes to stderr when it panics.

    All that the block writes to stderr is withheld until it ends, and then written unless it has panicked.
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
    """In the `with` block, put a model into evaluation mode; then restore the mode of every module."""
    with restored_modes(model):
        model.eval()
        yield
