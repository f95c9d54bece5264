"""Finds out by a trial whether a model can compute the shared prefix of several texts once."""

import logging
import random
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from workbench.evaluation.inference import encoding, prefix_tree
from workbench.evaluation.inference.prefix_tree import Pass, TokenRequest, Tree

_LENGTH = 48
_COLUMNS = 4096
"""Number of logits per token that are compared."""
_EXACT_TOLERANCE = 0.003
_ROUNDING_TOLERANCE = 0.1
"""Largest error of the tree's logits, relative to the difference between two branches: in float32, and with
weights or activations of 16 bits or fewer. Wrong masks or positions give a larger error."""
_ERRORS = (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError, IndexError, KeyError)
"""Exceptions of models that don't take a cache, a custom mask or logits_to_keep."""

log = logging.getLogger("workbench")


class Scorer(Protocol):
    """What the trial needs of a causal language model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int
    dtype: torch.dtype

    def fits_window(self, length: int) -> bool:
        """Return whether texts of `length` tokens can share prefixes."""

    def padded_logits(self, batch: list[tuple[int, ...]]) -> Tensor:
        """Return the logits (batch, longest, vocabulary) of sequences padded on the right."""

    def tree_logits(self, tree: Tree, step: Pass, cache: DynamicCache, rows: list[int]) -> Tensor:
        """Return the logits of some nodes of a pass over a prefix tree."""


def can_share_prefixes(lm: Scorer) -> bool:
    """Run three sequences with a common prefix, as a tree and each alone; return whether logits agree.

    False without a run if the context or an attention window is too short, or for GPT-Neo's `window_size`;
    False, which is logged, if the run fails.
    """
    config = lm.model.config.get_text_config()
    if getattr(config, "window_size", None):
        return False  # GPT-Neo counts its window by places in the pass, not by positions
    if encoding.context_length(lm.model, lm.tokenizer) < _LENGTH or not lm.fits_window(_LENGTH):
        return False
    try:
        return _error(lm) <= _tolerance(lm)
    except _ERRORS as error:
        log.info("shared prefixes are computed for each text: the trial ended with %s", type(error).__name__)
        return False


@torch.no_grad()
def _error(lm: Scorer) -> float:
    """Return the error of the tree's logits, relative to the difference between two branches.

    That difference is the size of the error if a branch attended to its siblings.
    """
    tokens = random.Random(0).choices(range(lm.vocabulary), k=128)
    sequences = [(*tokens[:8], *tokens[start : start + 40], 0) for start in (8, 48, 88)]
    tree = prefix_tree.build([TokenRequest(sequence, 1) for sequence in sequences])
    columns = slice(0, _COLUMNS)
    separate = torch.stack([lm.padded_logits([s[:-1]])[0, :, columns] for s in sequences]).float()
    branches = list(range(8, len(tree.tokens)))
    cache = DynamicCache()
    first = lm.tree_logits(tree, Pass(list(range(8)), 0, keep=True), cache, list(range(8)))
    second = lm.tree_logits(tree, Pass(branches, 8, keep=False), cache, list(range(len(branches))))
    together = torch.cat([first[:, columns], second[:, columns]])
    shared = together[torch.tensor(tree.paths)].float()  # (3, 48, columns)
    error = (shared - separate).square().mean().sqrt()
    branch_difference = (separate[0, 8:] - separate[1, 8:]).square().mean().sqrt()
    return float(error / branch_difference)


def _tolerance(lm: Scorer) -> float:
    is_rounded = lm.dtype != torch.float32 or getattr(lm.model, "is_quantized", False)
    return _ROUNDING_TOLERANCE if is_rounded else _EXACT_TOLERANCE
