"""The leaderboard section: where runs are looked for and compared."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class LeaderboardConfig:
    """The `leaderboard` section."""

    folder: str = "runs"
    """Folder whose runs are compared, and where leaderboard.html, .md and .json are written."""
