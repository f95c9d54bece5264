"""The methods that combine several adapters into one or several models into one, and their properties."""

from enum import Enum


class MergeMethod(Enum):
    """Method of combining adapters, named as in peft's `add_weighted_adapter`, or models, as in mergekit."""

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
        """Whether the method merges whole models."""
        return self in FOR_MODELS

    @property
    def is_for_adapters(self) -> bool:
        """Whether the method combines adapters."""
        return self not in (MergeMethod.task_arithmetic, MergeMethod.slerp)

    @property
    def prunes(self) -> bool:
        """Whether only the share `merge.density` of an update's values is kept, and the rest becomes 0."""
        return self.value.startswith(("ties", "dare", "magnitude_prune"))

    @property
    def is_random(self) -> bool:
        """Whether the values to keep are drawn at random, with the seed `merge.seed`."""
        return self.value.startswith("dare")

    @property
    def truncates(self) -> bool:
        """Whether the combined update is cut to rank `merge.rank` by a truncated SVD."""
        return self.value.endswith("svd")

    @property
    def elects_sign(self) -> bool:
        """Whether each weight is combined from only those updates that have the prevailing sign (TIES)."""
        return "ties" in self.value

    @property
    def normalizes(self) -> bool:
        """Whether the sum over models is divided by the sum of the weights by default, as in mergekit."""
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
