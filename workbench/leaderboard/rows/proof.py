"""Tells how near a merged model is to what it was merged from."""

from workbench.leaderboard.collect import Run


def merge_proof(run: Run) -> str:
    """Return the result of the merge's proof as a sentence; empty if there is no report."""
    try:
        merged = run.merge_report["merged"]
        model = f"merged model ({run.merge_report['dtype']})"
        distance = f"within {merged['largest']:.2g} of the {run.merge_report['reference']}'s"
        flips = f"{merged['argmax_flips']} of {merged['num_positions']} next tokens or labels differ"
        return f"The logits of the {model} are {distance} (allowed: {merged['bound']:.2g}); {flips}."
    except (KeyError, TypeError, ValueError):
        return ""
