"""The methods that make one adapter or one model out of several, and what each of them needs."""

from enum import Enum


class MergeMethod(Enum):
    """How adapters are combined, by the names of peft's `add_weighted_adapter`, or models, by mergekit's."""

    cat = "cat"
    linear = "linear"
    svd = "svd"
    task_arithmetic = "task_arithmetic"
    slerp = "slerp"
    ties = "ties"
    ties_svd = "ties_svd"
    dare_linear = "dare_linear"
    dare_linear_svd = "dare_linear_svd"
    dare_ties = "dare_ties"
    dare_ties_svd = "dare_ties_svd"
    magnitude_prune = "magnitude_prune"
    magnitude_prune_svd = "magnitude_prune_svd"

    @property
    def is_for_models(self) -> bool:
        """Whether it merges whole models."""
        return self in FOR_MODELS

    @property
    def is_for_adapters(self) -> bool:
        """Whether it combines adapters."""
        return self not in (MergeMethod.task_arithmetic, MergeMethod.slerp)

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

    @property
    def elects_sign(self) -> bool:
        """Whether of each value only the updates count that have the sign of most."""
        return "ties" in self.value

    @property
    def normalizes(self) -> bool:
        """Whether mergekit divides by the sum of the weights where `normalize` is not given."""
        return self in (MergeMethod.linear, MergeMethod.ties)


FOR_MODELS = (
    MergeMethod.task_arithmetic,
    MergeMethod.linear,
    MergeMethod.slerp,
    MergeMethod.ties,
    MergeMethod.dare_linear,
    MergeMethod.dare_ties,
)
"""The methods for whole models."""
FOR_ADAPTERS = tuple(method for method in MergeMethod if method.is_for_adapters)
"""The methods for adapters."""
