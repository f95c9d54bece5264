"""The leaderboard section: where runs are looked for and compared."""

from dataclasses import dataclass

from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError


@dataclass(kw_only=True)
class LeaderboardConfig:
    r"""Comparison of all runs in a folder, in the terminal and as leaderboard.html.

    Example:
        python -m workbench recipe=leaderboard leaderboard.folder=runs \
            leaderboard.num_samples=10
    """

    folder: str = "runs"
    """Folder that is searched for runs. leaderboard.html, .md and .json are written there."""
    num_samples: int = number(3, 0, 10**5)
    """Items per benchmark to show that the trained model gained over the base, and as many that it lost.
    Raise it to read what training changed. 0: none."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        if not self.folder.strip():
            raise ConfigError("leaderboard.folder: empty (a folder; . for the current one)")
        check_ranges(self, "leaderboard")
