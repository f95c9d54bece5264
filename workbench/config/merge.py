"""The merge section: how base model and adapter, several adapters or several models become one."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.merge_method import FOR_ADAPTERS, FOR_MODELS, MergeMethod
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
"""Whether combined adapters become a merged model or a single adapter."""

COMBINED_BY = ("adapters", "models", "method", "density", "rank", "normalize", "t", "seed", "result")
SEARCHED_BY = ("search", "guard", "guard_margin")
"""Keys of the merge section for combining several adapters or models, and for a search of their weights."""
OF_METHODS = ("method", "density", "rank", "normalize", "t")
"""Keys that apply only to several adapters or models; null: not given."""


MOST_FACTOR, MOST_SETTINGS = 100, 200
"""Largest absolute factor of a search, and largest number of combinations of factors."""


@dataclass(kw_only=True)
class WeightedPart:
    """One of several adapters or models to combine, and its weight in the combination."""

    path: str
    """Folder or Hub id."""
    weight: float = number(1.0, -100, 100)
    """Factor on the difference between this adapter or model and the base."""


@dataclass(kw_only=True)
class MergeConfig:
    r"""The base model and its adapter as one model, or several adapters or models of one base as one.

    The sum is computed in float32, rounded once, and compared with the adapter model before it is published.

    Example:
        python -m workbench recipe=merge run_dir=runs/both model.path=MODEL \
            'merge.adapters=[{path: ZH, weight: 0.5}, {path: EN, weight: 0.5}]'
    """

    dtype: MergeDtype = MergeDtype.auto
    """Number format of the merged weights. auto: the one that the model was loaded in."""
    probe: bool = True
    """true compares the logits of merged model and adapter model on training rows or a few sentences. false
    only checks the weights, which takes less time and memory."""
    adapters: list[WeightedPart] = field(default_factory=list)
    """LoRA adapters of one base, as in [{path: A, weight: 0.5}, {path: B}], that become one adapter in the
    run's combined/. Empty: the run's adapter, or the one at adapter.path."""
    models: list[WeightedPart] = field(default_factory=list)
    """Fully tuned models of the base at model.path, as in [{path: A, weight: 0.5}, {path: B}], that become
    one model in the run's merged/."""
    method: MergeMethod | None = None
    """How adapters or models become one. null: cat for adapters, task_arithmetic for models. cat: the exact
    weighted sum of the updates, of all ranks together. svd: the best approximation of that sum in merge.rank.
    linear, of adapters: weighted sums of A and of B, which is not the sum of the updates; of models: their
    weighted mean. task_arithmetic (arXiv:2212.04089): the base and the weighted sum of what the models add to
    it. slerp: between two models. ties (arXiv:2306.01708): the largest values, where signs agree.
    dare_linear, dare_ties (arXiv:2311.03099): random values, scaled up. magnitude_prune: the largest values.
    Of adapters, ties, dare and magnitude_prune work on A and B apart, and need equal ranks; with _svd they
    work on the updates. Adapters are combined as peft does, models as mergekit: TIES elects signs before the
    weights in peft, after them in mergekit."""
    density: float | None = number(None, 0, 1, above=True)
    """Share of values that ties, dare and magnitude_prune keep, such as 0.5. null with the other methods."""
    rank: int | None = number(None, 1, 2**16)
    """Rank of the adapter that svd and the _svd methods make. null: the largest rank of the adapters. The sum
    of the ranks makes svd exact."""
    normalize: bool | None = None
    """Whether the sum over models is divided by the sum of their weights (ties: of those with the elected
    sign). null: true for linear and ties."""
    t: float | None = number(None, 0, 1)
    """Position of slerp's result between the first model (0) and the second (1)."""
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
        """Raise ConfigError if a value is out of range, or values contradict each other."""
        check_ranges(self, "merge")
        self._check_search()
        if self.adapters and self.models:
            raise ConfigError("merge.models: given together with merge.adapters (give one of them)")
        if self.result is not MergeResult.model and not self.adapters:
            raise ConfigError(
                f"merge.result: {self.result.name!r} needs adapters to combine (merge.adapters)"
            )
        if self.parts:
            self._check_parts()
            return
        for name in OF_METHODS:
            if (value := getattr(self, name)) is not None:
                shown = value.name if isinstance(value, Enum) else value
                raise ConfigError(f"merge.{name}: {shown!r} needs merge.adapters or merge.models")

    @property
    def parts(self) -> list[WeightedPart]:
        """The adapters or models that become one; empty if a single adapter is merged."""
        return self.adapters or self.models

    @property
    def combination(self) -> MergeMethod:
        """The method by which `parts` become one: `method`, or its default."""
        return self.method or (MergeMethod.cat if self.adapters else MergeMethod.task_arithmetic)

    @property
    def normalizes(self) -> bool:
        """Whether the sum over models is divided by the sum of their weights: `normalize`, or its default."""
        return self.combination.normalizes if self.normalize is None else self.normalize

    def _check_search(self) -> None:
        """Raise ConfigError if merge.search or merge.guard contradicts another key or exceeds a limit."""
        check_once("merge.search", self.search)
        check_once("merge.guard", self.guard)
        if not self.search:
            if self.guard:
                raise ConfigError(f"merge.guard: {self.guard!r} is for a search (merge.search=[0,0.5,1])")
            return
        if not self.adapters or self.combination is not MergeMethod.cat:
            raise ConfigError(
                "merge.search: needs merge.adapters (as in [{path: A}]) and merge.method=cat, as it tries "
                "other weights in the sum of their updates"
            )
        if wrong := [factor for factor in self.search if not -MOST_FACTOR <= factor <= MOST_FACTOR]:
            raise ConfigError(
                f"merge.search: {wrong[0]!r} is not a factor from {-MOST_FACTOR} to {MOST_FACTOR}"
            )
        if (count := len(self.search) ** len(self.adapters)) > MOST_SETTINGS:
            raise ConfigError(
                f"merge.search: {count:,} combinations of factors (at most {MOST_SETTINGS}: list fewer)"
            )

    def _check_parts(self) -> None:
        """Raise ConfigError if merge.adapters or merge.models don't fit the method and its keys."""
        method, key = self.combination, "merge.adapters" if self.adapters else "merge.models"
        known = FOR_ADAPTERS if self.adapters else FOR_MODELS
        check_once(key, [part.path for part in self.parts])
        if method not in known:
            names = ", ".join(option.name for option in known)
            raise ConfigError(f"merge.method: {method.name!r} is not for {key} (known: {names})")
        if not any(part.weight for part in self.parts):
            raise ConfigError(f"{key}: all weights are 0, so the result would be the base")
        if self.adapters and len(self.adapters) == 1 and method is not MergeMethod.cat:
            raise ConfigError(
                f"merge.method: {method.name!r} needs two adapters or more (cat scales a single one)"
            )
        self._check_density(method)
        self._check_others(method)

    def _check_density(self, method: MergeMethod) -> None:
        """Raise ConfigError if `density` is missing for a method that prunes, or is set for any other."""
        if method.prunes and self.density is None:
            raise ConfigError(
                f"merge.density: not given, and merge.method={method.name} needs the share of values that it "
                "keeps (as in merge.density=0.5)"
            )
        if not method.prunes and self.density is not None:
            raise ConfigError(
                f"merge.density: {self.density!r}, but merge.method={method.name} keeps all values (leave it "
                "out, or choose a method of ties, dare or magnitude_prune)"
            )

    def _check_others(self, method: MergeMethod) -> None:
        """Raise ConfigError if rank, normalize or t is set and the method doesn't use it, or slerp lacks `t`.

        slerp also needs exactly two models without weights.
        """
        if self.rank is not None and not method.truncates:
            raise ConfigError(
                f"merge.rank: {self.rank!r}, but with merge.method={method.name} the adapters' ranks decide "
                "(leave it out, or choose svd or an _svd method)"
            )
        is_slerp = method is MergeMethod.slerp
        if self.normalize is not None and (self.adapters or is_slerp):
            raise ConfigError(
                f"merge.normalize: {self.normalize!r} is for the sum over models, not for "
                f"{'slerp' if is_slerp else 'adapters'} (leave it out)"
            )
        if is_slerp is (self.t is None):
            raise ConfigError(
                "merge.t: not given, and merge.method=slerp needs it (0: the first model, 1: the second)"
                if is_slerp
                else f"merge.t: {self.t!r} is for merge.method=slerp, not for {method.name} (leave it out)"
            )
        if is_slerp and (len(self.models) != 2 or any(part.weight != 1 for part in self.models)):
            raise ConfigError(
                "merge.models: merge.method=slerp takes two models without weights (merge.t says how far "
                "from the first to the second)"
            )
