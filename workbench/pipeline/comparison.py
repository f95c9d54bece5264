"""The leaderboard step."""

from workbench.config import Config
from workbench.run_dir import RunDir


def compare(config: Config, run_dir: RunDir) -> None:
    """Show all runs of `leaderboard.folder` side by side."""
