"""The merge section: how base model and adapter, or several adapters, become one."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.merge_method import MergeMethod
from workbench.config.names import check_once
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError


class MergeDtype(Enum):
    """Number format of the merged weights."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


MergeResult = Enum("MergeResult", {"model": "model", "adapter": "adapter"})
"""What several adapters become."""

COMBINED_BY = ("adapters", "method", "density", "rank", "seed", "result")
SEARCHED_BY = ("search", "guard", "guard_margin")
"""Keys that decide what several adapters become, and which weights a search chooses."""
OF_METHODS = ("method", "density", "rank")
"""Keys that have a meaning for several adapters only; null where they aren't given."""


MOST_FACTOR, MOST_SETTINGS = 100, 200
"""Largest factor of a search, and most combinations of factors."""


@dataclass(kw_only=True)
class WeightedPart:
    """One adapter of several."""

    path: str
    """Folder or Hub id."""
    weight: float = number(1.0, -100, 100)
    """Factor on its update of the weights."""


@dataclass(kw_only=True)
class MergeConfig:
    r"""The base model and its adapter as one model, or several adapters of one base as one.

    The sum is computed in float32, rounded once, and compared with the adapter model before it is published.

    Example:
        python -m workbench recipe=merge run_dir=runs/both model.path=MODEL \
            'merge.adapters=[{path: ZH, weight: 0.5}, {path: EN, weight: 0.5}]'
    """

    dtype: MergeDtype = MergeDtype.auto
    """Number format of the merged weights. auto: the one that the model was loaded in."""
    adapters: list[WeightedPart] = field(default_factory=list)
    """LoRA adapters of one base, as in [{path: A, weight: 0.5}, {path: B}], that become one adapter in the
    run's combined/. Empty: the run's adapter, or the one at adapter.path."""
    method: MergeMethod | None = None
    """How merge.adapters are combined, as peft does it. null: cat. cat: the exact weighted sum of the
    updates, of all ranks together. svd: the best approximation of that sum in merge.rank. linear: weighted
    sums of A and of B, which is not the sum of the updates. ties (arXiv:2306.01708): the largest values,
    where signs agree. dare_linear, dare_ties (arXiv:2311.03099): random values, scaled up. magnitude_prune:
    the largest values. These work on A and B apart, and need equal ranks; with _svd they work on the
    updates."""
    density: float | None = number(None, 0, 1, above=True)
    """Share of values that ties, dare and magnitude_prune keep, such as 0.5. null with the other methods."""
    rank: int | None = number(None, 1, 2**16)
    """Rank of the adapter that svd and the _svd methods make. null: the largest rank of the adapters. The sum
    of the ranks makes svd exact."""
    seed: int = number(0, 0, 2**32 - 1)
    """Seed of the values that dare drops, and of the halves of a search."""
    result: MergeResult = MergeResult.model
    """What merge.adapters become. model: one adapter, merged into the base and proven. adapter: one adapter
    alone."""
    search: list[float] = field(default_factory=list)
    """Factors to try on the weights of merge.adapters, as in [0,0.25,0.5,0.75,1,1.25]; of several adapters
    all combinations. They are scored on one half of the chosen benchmarks' items, and the largest gain whose
    loss on merge.guard is small enough is reported on the other half and merged. The curve and the table are
    in the run's search/. Empty: the weights as given."""
    guard: list[str] = field(default_factory=list)
    """The chosen benchmarks on which a search allows no loss, as in [hellaswag]; the gain counts on the
    others."""
    guard_margin: float = number(0.02, 0, 1, above=True)
    """Loss on merge.guard that a search allows, as a share: its upper bound, with one-sided confidence of
    95%, must be below. 0.02 is 2 points."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        check_ranges(self, "merge")
        self._check_search()
        if self.result is not MergeResult.model and not self.adapters:
            raise ConfigError(f"merge.result: {self.result.name!r} is for several adapters (merge.adapters)")
        if self.adapters:
            self._check_adapters()
            return
        for name in OF_METHODS:
            if (value := getattr(self, name)) is not None:
                shown = value.name if isinstance(value, Enum) else value
                raise ConfigError(f"merge.{name}: {shown!r} is for several adapters (merge.adapters)")

    @property
    def combination(self) -> MergeMethod:
        """The method by which `adapters` are combined."""
        return self.method or MergeMethod.cat

    def _check_search(self) -> None:
        """Raise ConfigError if the keys of a search contradict each other."""
        check_once("merge.search", self.search)
        check_once("merge.guard", self.guard)
        if not self.search:
            if self.guard:
                raise ConfigError(f"merge.guard: {self.guard!r} is for a search (merge.search=[0,0.5,1])")
            return
        if not self.adapters or self.combination is not MergeMethod.cat:
            raise ConfigError(
                "merge.search: tries weights of merge.adapters with merge.method=cat, the exact weighted sum "
                "(give one adapter or more there)"
            )
        if wrong := [factor for factor in self.search if not -MOST_FACTOR <= factor <= MOST_FACTOR]:
            raise ConfigError(f"merge.search: {wrong[0]!r} (from {-MOST_FACTOR} to {MOST_FACTOR})")
        if (count := len(self.search) ** len(self.adapters)) > MOST_SETTINGS:
            raise ConfigError(
                f"merge.search: {count:,} combinations of factors (at most {MOST_SETTINGS}: name fewer)"
            )

    def _check_adapters(self) -> None:
        """Raise ConfigError if the keys of a combination contradict each other."""
        method = self.combination
        check_once("merge.adapters", [part.path for part in self.adapters])
        if not any(part.weight for part in self.adapters):
            raise ConfigError("merge.adapters: all weights are 0, so the combination would do nothing")
        if len(self.adapters) == 1 and method is not MergeMethod.cat:
            raise ConfigError(
                f"merge.method: {method.name!r} needs two adapters or more (cat scales a single one)"
            )
        self._check_density(method)
        if self.rank is not None and not method.truncates:
            raise ConfigError(
                f"merge.rank: {self.rank!r}, but the rank that merge.method={method.name} makes follows from "
                "the adapters (null, or svd and the _svd methods)"
            )

    def _check_density(self, method: MergeMethod) -> None:
        """Raise ConfigError if the density is missing, or has no meaning."""
        if method.prunes and self.density is None:
            raise ConfigError(
                f"merge.density: not given, and merge.method={method.name} needs the share of values that it "
                "keeps (as in merge.density=0.5)"
            )
        if not method.prunes and self.density is not None:
            raise ConfigError(
                f"merge.density: {self.density!r}, but merge.method={method.name} keeps all values (null, or "
                "a method of ties, dare or magnitude_prune)"
            )
