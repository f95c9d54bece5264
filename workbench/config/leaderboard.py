"""The leaderboard section: where runs are looked for and compared."""

from dataclasses import dataclass

from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError


@dataclass(kw_only=True)
class LeaderboardConfig:
    """The `leaderboard` section."""

    folder: str = "runs"
    """Folder whose runs are compared, and where leaderboard.html, .md and .json are written."""
    num_samples: int = number(3, 0, 10**5)
    """Items shown per benchmark that the trained model gained, and as many that it lost."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        if not self.folder.strip():
            raise ConfigError("leaderboard.folder: empty (a folder; . for the current one)")
        check_ranges(self, "leaderboard")
