"""The compare section: two models' results, item by item."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.names import check_once
from workbench.config.ranges import check_ranges, number

Until = Enum("Until", {"all": "all", "decided": "decided"})
"""Whether stored results are compared, or both models are asked until the difference is decided."""


@dataclass(kw_only=True)
class CompareConfig:
    r"""recipe=compare: which of two models is better on the same items, whichever tool scored them.

    Example:
        python -m workbench recipe=compare \
            compare.a=runs/NAME/predictions/base compare.b=lm-eval-out/MODEL
    """

    a: str | None = None
    """First results: a run folder, RUN/predictions/MODEL, a folder of lm-evaluation-harness with samples
    (--log_samples), or an OpenCompass folder; recipe=compare also takes a=PATH. With until=decided: a
    model's path; null: the base of the run."""
    b: str | None = None
    """Second results, likewise. Differences are b minus a. With until=decided: a model's path; null: the
    trained model of the run."""
    benchmarks: list[str] = field(default_factory=list)
    """Benchmarks to compare, by their names in a. Empty: all that both have."""
    alpha: float = number(0.05, 0, 0.5, above=True)
    """Chance that any difference is shown where there is none. The benchmarks share it; one fifth of it is
    for their subjects."""
    until: Until = Until.all
    """all: compare the results that are there. decided: ask both models in a random order of items, and stop
    once the difference is decided."""
    margin: float | None = number(None, 0, 1, above=True)
    """With until=decided: differences below it are of no interest, such as 0.02 for 2 points. The comparison
    then also stops once the difference is shown to be smaller. null: it stops once one model is better."""
    seed: int = number(0, 0, 2**32 - 1)
    """With until=decided: seed of the order of the items."""
    output: str | None = None
    """Folder for compare.json and compare.csv; with until=decided for compare.json only. null: the run's
    folder with until=decided, else no files are written."""

    def __post_init__(self) -> None:
        """Raise ConfigError if a number is out of range, or a benchmark is listed twice."""
        check_ranges(self, "compare")
        check_once("compare.benchmarks", self.benchmarks)
