"""Finds out by trials whether a model can compute the shared prefix of several texts once."""

import random
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from workbench.evaluation.inference import encoding, prefix_tree
from workbench.evaluation.inference.prefix_tree import Pass, TokenRequest, Tree
from workbench.log_once import log_once
from workbench.model_trials.lengths import edges
from workbench.model_trials.outcome import ERRORS, amplified, failure, scales

_FIRST = {2: 1, 12: 8, 48: 8}
"""Length of the first trials' texts -> length of their prefix, in tokens. An attention sink takes most in the
shortest texts, with 2 tokens a third of the attention, which is far more than the rounding of 16 bits."""
_LONGEST = max(_FIRST)
_BRANCH = 4
"""Tokens after the prefix of a long text."""
_WITHOUT_TREES = ("flash_attention_2", "flash_attention_3")
"""Attention kernels that know causal order and packed texts only, not the masks of prefix trees."""
_COLUMNS = 4096
"""Number of logits per token that are compared."""
_EXACT = {1.0: 1e-4, 30.0: 1e-3}
_ROUNDED = {1.0: 0.1, 30.0: 0.3}
"""Scale of the hidden states -> largest error of the tree's logits, relative to the difference between two
branches: in float32, and with weights or activations of 16 bits or fewer. Wrong masks or positions give a
larger error."""


class Scorer(Protocol):
    """What the trials need of a causal language model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int
    dtype: torch.dtype
    computed_tokens: int

    def fits_window(self, length: int) -> bool:
        """Return whether tokens of a text of `length` tokens attend to all tokens before them."""

    def padded_logits(self, batch: list[tuple[int, ...]]) -> Tensor:
        """Return the logits (batch, longest, vocabulary) of sequences padded on the right."""

    def tree_logits(self, tree: Tree, step: Pass, cache: DynamicCache, rows: list[int]) -> Tensor:
        """Return the logits of some nodes of a pass over a prefix tree."""


class PrefixSharing:
    """Tells up to which length texts can share prefixes; trials of a length wait for the first such text."""

    def __init__(self, lm: Scorer) -> None:
        """Run the first trials."""
        config = lm.model.config
        self._lm = lm
        self._untried = [length for length in edges(config) if length > _LONGEST and lm.fits_window(length)]
        self.longest: int | None = None
        """Number of tokens up to which texts can share prefixes; None: any that the windows allow."""
        if config._attn_implementation in _WITHOUT_TREES:
            self._refuse(0, f"{config._attn_implementation} has no masks for them; model.attention=sdpa has")
        if getattr(config.get_text_config(), "window_size", None):
            self._refuse(0, "its window is counted by places in the pass, not by positions")  # GPT-Neo
        if encoding.context_length(lm.model, lm.tokenizer) < _LONGEST or not lm.fits_window(_LONGEST):
            self._refuse(0, f"trials need texts of {_LONGEST} tokens")
        for length, num_shared in _FIRST.items():
            self._try(length, num_shared)

    def is_possible(self) -> bool:
        """Return whether the first trials have succeeded."""
        return self.longest != 0

    def is_exact(self, length: int) -> bool:
        """Return whether texts of `length` tokens can share prefixes; this may run trials of such texts."""
        while self._untried and self._untried[0] <= length:
            edge = self._untried.pop(0)
            self._try(edge, edge - _BRANCH)
        return self.longest is None or length <= self.longest

    def _try(self, length: int, num_shared: int) -> None:
        """Compute three texts with a common prefix as a tree and each alone, and compare their logits."""
        if self.longest is not None:
            return
        computed = self._lm.computed_tokens
        is_rounded = self._lm.dtype != torch.float32 or getattr(self._lm.model, "is_quantized", False)
        try:
            for scale in scales(self._lm.dtype):
                with torch.no_grad(), amplified(self._lm.model, scale):
                    error, difference = _error(self._lm, length, num_shared)
                if not error <= (_ROUNDED if is_rounded else _EXACT)[scale] * difference:
                    self._refuse(length - 1, f"at {length} tokens, branches differ from texts alone")
        except ERRORS as error:
            self._refuse(length - 1, failure(error))
        self._lm.computed_tokens = computed

    def _refuse(self, longest: int, reason: str) -> None:
        """Let only texts of up to `longest` tokens share prefixes; log it with the reason, once."""
        if self.longest is not None:
            return
        self.longest = 0 if longest <= _LONGEST else longest
        texts = "every text" if self.longest == 0 else f"each text of more than {self.longest} tokens"
        log_once(f"shared prefixes are computed again for {texts}, which takes more time ({reason})")


def _error(lm: Scorer, length: int, num_shared: int) -> tuple[float, float]:
    """Return the error of a tree's logits, and the difference between two of its branches.

    That difference is the size of the error if a branch attended to its siblings.

    Args:
        lm: The model.
        length: Tokens of each of the three texts.
        num_shared: Tokens of their common prefix.
    """
    num_own = length - num_shared
    tokens = random.Random(0).choices(range(lm.vocabulary), k=num_shared + 3 * num_own)
    starts = (num_shared, num_shared + num_own, num_shared + 2 * num_own)
    sequences = [(*tokens[:num_shared], *tokens[start : start + num_own], 0) for start in starts]
    tree = prefix_tree.build([TokenRequest(sequence, 1) for sequence in sequences])
    branches = list(range(num_shared, len(tree.tokens)))
    cache = DynamicCache()
    lm.tree_logits(tree, Pass(list(range(num_shared)), 0, keep=True), cache, [])
    rows = lm.tree_logits(tree, Pass(branches, num_shared, keep=False), cache, list(range(len(branches))))
    paths = torch.tensor(tree.paths)[:, num_shared:] - num_shared
    shared = rows[paths][..., :_COLUMNS].float()  # (3, num_own, columns)
    separate = torch.stack([_alone(lm, sequence, num_own) for sequence in sequences])
    error = (shared - separate).square().mean().sqrt()
    return float(error), float((separate[0] - separate[1]).square().mean().sqrt())


def _alone(lm: Scorer, sequence: tuple[int, ...], num_last: int) -> Tensor:
    """Return the last logits (num_last, columns) of a text that is computed alone, in float32."""
    inputs = sequence[:-1]
    if len(inputs) <= _LONGEST:
        return lm.padded_logits([inputs])[0, -num_last:, :_COLUMNS].float()
    chain = prefix_tree.build([TokenRequest(sequence, 1)])  # all logits of a long text take gigabytes
    last = list(range(len(inputs) - num_last, len(inputs)))
    step = Pass(list(range(len(inputs))), 0, keep=False)
    return lm.tree_logits(chain, step, DynamicCache(), last)[:, :_COLUMNS].float()
