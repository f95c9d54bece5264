"""Computes a GGUF file by llama.cpp, in this process, if llama-cpp-python is installed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGE = "llama-cpp-python"


def is_installed() -> bool:
    """Return whether llama-cpp-python can be imported."""
    return find_spec("llama_cpp") is not None


class LlamaCpp:
    """A GGUF file that llama.cpp computes, with its own defaults: keys and values in float16."""

    def __init__(self, model: Any) -> None:
        """Wrap a `llama_cpp.Llama` that keeps all logits."""
        self._model = model

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text by the file's tokenizer, with its beginning token if it has one."""
        return [int(token) for token in self._model.tokenize(text.encode("utf-8"), special=True)]

    def logits(self, row: Sequence[int]) -> Tensor:
        """Return the float32 logits (T, V) after each token of a text."""
        self._model.reset()
        self._model.eval(list(row))
        return torch.from_numpy(self._model.scores[: len(row)].copy())

    def continued(self, row: Sequence[int], count: int) -> list[int]:
        """Return the `count` most likely tokens after a text, one after the other."""
        last, new = self.logits(row)[-1], []
        for _ in range(count):
            new.append(int(last.argmax()))
            self._model.eval(new[-1:])
            last = torch.from_numpy(self._model.scores[len(row) + len(new) - 1].copy())
        return new


@contextmanager
def opened(file: Path, context: int) -> Iterator[LlamaCpp]:
    """Load a GGUF file for the duration of the context; texts may have `context` tokens."""
    from llama_cpp import Llama

    model = Llama(str(file), n_ctx=context, logits_all=True, verbose=False)
    try:
        yield LlamaCpp(model)
    finally:
        model.close()
