"""Computes the prefixes of groups of prompts, each from the longest prefix that is known already."""

import torch

from workbench.evaluation.inference import prefix_tree
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoding.preallocated_cache import GrowingCache
from workbench.evaluation.inference.encoding import num_common
from workbench.evaluation.inference.prefix_tree import Pass, TokenRequest

_SHORT_COPY = 32
"""Keys and values of fewer tokens are computed again instead of being copied from another prefix."""


class PrefixStore:
    """Keys and values of the latest prefix; groups whose rows are still decoded hold their own."""

    def __init__(self, lm: TransformersLM) -> None:
        """Create a store without a prefix."""
        self.lm = lm
        self._prefix: list[int] = []
        self._cache = GrowingCache()

    @torch.no_grad()
    def cache(self, prefix: list[int]) -> GrowingCache:
        """Return a cache of one row with the tokens of `prefix`; what the latest prefix has is copied.

        A caller may append tokens, if it truncates the cache before it uses it again.
        """
        if not prefix:
            return GrowingCache()
        if prefix != self._prefix:
            known = num_common(self._prefix, prefix)
            known = 0 if known < _SHORT_COPY else min(known, len(prefix) - 1)
            cache = self._cache.prefix(known) if known else GrowingCache()
            tree = prefix_tree.build([TokenRequest((*prefix, 0), len(prefix))])
            self.lm.tree_logits(tree, Pass(list(range(known, len(prefix))), known, keep=True), cache, [])
            self._prefix, self._cache = prefix, cache
        self._cache.truncate(len(prefix))
        return self._cache
