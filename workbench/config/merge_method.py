"""The methods that make one adapter out of several, and what each of them needs."""

from enum import Enum


class MergeMethod(Enum):
    """How adapters are combined; the names are those of peft's `add_weighted_adapter`."""

    cat = "cat"
    linear = "linear"
    svd = "svd"
    ties = "ties"
    ties_svd = "ties_svd"
    dare_linear = "dare_linear"
    dare_linear_svd = "dare_linear_svd"
    dare_ties = "dare_ties"
    dare_ties_svd = "dare_ties_svd"
    magnitude_prune = "magnitude_prune"
    magnitude_prune_svd = "magnitude_prune_svd"

    @property
    def prunes(self) -> bool:
        """Whether only a share of the values is kept, which `merge.density` says."""
        return self.value.startswith(("ties", "dare", "magnitude_prune"))

    @property
    def is_random(self) -> bool:
        """Whether the values that are kept are drawn from `merge.seed`."""
        return self.value.startswith("dare")

    @property
    def truncates(self) -> bool:
        """Whether the result is a truncated SVD, whose rank `merge.rank` says."""
        return self.value.endswith("svd")
