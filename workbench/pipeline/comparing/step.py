"""The compare step: two models' results, item by item."""

from workbench.leaderboard.comparing.command import show_comparison
from workbench.pipeline.run_state import Run


def compare(run: Run) -> None:
    """Print the comparison of two results."""
    show_comparison(run.config.compare)
