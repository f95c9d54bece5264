"""Compares generated answers with targets in the same way as lm-evaluation-harness."""

from workbench.evaluation.extraction.extract import without_signs
from workbench.evaluation.metrics import text_similarity
from workbench.evaluation.records import Answer, Example


def of_plain_targets(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return 1.0 if the prediction equals a target without commas and dollar signs, else 0.0.

    As in the harness's GSM8K, of a target the text after its last `#### ` counts.
    """
    targets = example.written_targets or example.reference_texts
    accepted = {without_signs(text.rpartition("#### ")[2]).strip().casefold() for text in targets}
    return float(plain_vote(str(prediction)) in accepted)


def plain_vote(prediction: str) -> str:
    """Return a prediction as `of_plain_targets` compares it."""
    return prediction.strip().casefold()


def of_unpunctuated_targets(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return 1.0 if the prediction equals a target but for case and ASCII punctuation, else 0.0.

    This is the comparison of the harness's MGSM.
    """
    targets = example.written_targets or example.reference_texts
    return max(text_similarity.same_without_punctuation(str(prediction), text) for text in targets)
