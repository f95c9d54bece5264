"""Turns a merge report into sentences: how close the merged model is to base plus adapter."""

from collections.abc import Mapping
from typing import Any

from workbench.leaderboard.collect import Run
from workbench.shown import message


def merge_proof(run: Run) -> str:
    """Return the sentence on the distance between merged and reference logits; empty if not compared."""
    return next(iter(_logits(run.merge_report)), "")


def proof_of(report: Mapping[str, Any]) -> str:
    """Return a merge report as sentences; reports of earlier versions give fewer."""
    return " ".join([*_summary(report), *_logits(report), *_base(report)])


def _summary(report: Mapping[str, Any]) -> list[str]:
    """Return a list with the report's summary as a sentence; empty without a summary.

    It says how much of the adapter's effect the merge preserves.
    """
    summary = report.get("summary")
    return [f"{summary[:1].upper()}{summary[1:]}."] if isinstance(summary, str) and summary else []


def _logits(report: Mapping[str, Any]) -> list[str]:
    """Return the sentence on the distance between merged and reference logits; empty list if not compared."""
    try:
        merged = report["merged"]
        sentence = message(
            "The logits of the merged model ({dtype}) are within {distance} of the {reference}'s "
            "(allowed: {bound}); {flips} of {positions} next tokens or labels differ.",
            dtype=report["dtype"],
            distance=f"{merged['largest']:.2g}",
            reference=report["reference"],
            bound=f"{merged['bound']:.2g}",
            flips=merged["argmax_flips"],
            positions=merged["num_positions"],
        )
        return [sentence]
    except (KeyError, TypeError, ValueError):
        return []


def _base(report: Mapping[str, Any]) -> list[str]:
    """Return sentences on accepted mismatches between adapter and base, and on the base's quantization."""
    method, accepted = report.get("quantization"), report.get("accepted")
    sentences = [f"The adapter {text}." for text in accepted] if isinstance(accepted, list) else []
    if isinstance(method, str) and method != "none" and report.get("summary"):
        sentences.append(f"The base is the one of the training, quantized to {method} and dequantized.")
    return sentences
