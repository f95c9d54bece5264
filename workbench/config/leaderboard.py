"""The leaderboard section: where runs are looked for and compared."""

from dataclasses import dataclass

from workbench.errors import ConfigError


@dataclass(kw_only=True)
class LeaderboardConfig:
    """The `leaderboard` section."""

    folder: str = "runs"
    """Folder whose runs are compared, and where leaderboard.html, .md and .json are written."""
    num_samples: int = 3
    """Items shown per benchmark that the trained model gained, and as many that it lost."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        if not self.folder.strip():
            raise ConfigError("leaderboard.folder: empty (a folder; . for the current one)")
        if self.num_samples < 0:
            raise ConfigError(f"leaderboard.num_samples: {self.num_samples!r} is no count (0 or more)")
