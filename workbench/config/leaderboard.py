"""The leaderboard section: where runs are looked for, and which of their models are tested against which."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.names import check_once
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError

FamilyKind = Enum(
    "FamilyKind", {"auto": "auto", "pairs": "pairs", "reference": "reference", "names": "names"}
)
"""Which models are tested against which."""


@dataclass(kw_only=True)
class LeaderboardConfig:
    r"""Comparison of all models scored in a folder, in the terminal and as leaderboard.html.

    Example:
        python -m workbench recipe=leaderboard leaderboard.folder=runs \
            leaderboard.family=reference leaderboard.reference=MODEL
    """

    folder: str = "runs"
    """Folder that is searched for runs. leaderboard.html, .md and .json are written there."""
    num_samples: int = number(3, 0, 10**5)
    """Items per benchmark to show that the trained model gained over the base, and as many that it lost.
    Raise it to read what training changed. 0: none."""
    family: FamilyKind = FamilyKind.auto
    """Which models are tested against which; the error rate of 3% is shared by all tests, so fewer tests find
    smaller differences. pairs: any two. reference: each against leaderboard.reference. names: any two of
    leaderboard.names. auto: pairs for up to 20 models, else reference."""
    reference: str | None = None
    """Name of the model that the others are tested against. null: the base that most models were made
    from."""
    names: list[str] = field(default_factory=list)
    """Names of the models that are tested, for `family: names`."""
    trained_for: list[str] | None = None
    """Benchmarks that the models were trained for. Forgetting is tested on all others: each trained model
    against the model it was made from. []: for none of them. null: not declared, so not tested."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        if not self.folder.strip():
            raise ConfigError("leaderboard.folder: empty (a folder; . for the current one)")
        check_ranges(self, "leaderboard")
        check_once("leaderboard.names", self.names)
        if self.family is FamilyKind.names and len(self.names) < 2:
            raise ConfigError(
                f"leaderboard.names: {self.names} (family=names needs the names of two models or more)"
            )
