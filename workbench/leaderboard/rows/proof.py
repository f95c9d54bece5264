"""Tells how near a merged model is to what it was merged from."""

from workbench.leaderboard.collect import Run
from workbench.shown import message


def merge_proof(run: Run) -> str:
    """Return the result of the merge's proof as a sentence; empty if there is no report."""
    try:
        merged = run.merge_report["merged"]
        return message(
            "The logits of the merged model ({dtype}) are within {distance} of the {reference}'s "
            "(allowed: {bound}); {flips} of {positions} next tokens or labels differ.",
            dtype=run.merge_report["dtype"],
            distance=f"{merged['largest']:.2g}",
            reference=run.merge_report["reference"],
            bound=f"{merged['bound']:.2g}",
            flips=merged["argmax_flips"],
            positions=merged["num_positions"],
        )
    except (KeyError, TypeError, ValueError):
        return ""
