"""How lm-evaluation-harness compares the generated answers of its tasks with their targets."""

from workbench.evaluation.extraction.extract import without_signs
from workbench.evaluation.metrics import text_similarity
from workbench.evaluation.records import Answer, Example


def of_plain_targets(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """1.0 if the text is a target as lm-evaluation-harness compares GSM8K's, as texts without signs."""
    targets = example.written_targets or example.reference_texts
    wanted = {without_signs(text.rpartition("#### ")[2]).strip().casefold() for text in targets}
    return float(str(prediction).strip().casefold() in wanted)


def of_unpunctuated_targets(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """1.0 if the text is a target as lm-evaluation-harness compares MGSM's, without case and punctuation."""
    targets = example.written_targets or example.reference_texts
    return max(text_similarity.same_without_punctuation(str(prediction), text) for text in targets)
