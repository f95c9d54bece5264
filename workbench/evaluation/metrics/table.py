"""Lists the metrics by name, with the judges and scores of generated texts."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from workbench.config.benchmark import Extract, OutputType
from workbench.evaluation.extraction.extract import last_number, last_number_as_written, number_after_marks
from workbench.evaluation.metrics import (
    instructions,
    label_agreement,
    math_equality,
    program_tests,
    reading_answers,
    text_similarity,
)
from workbench.evaluation.metrics.harness_matches import of_plain_targets, of_unpunctuated_targets, plain_vote
from workbench.evaluation.metrics.likelihood_scores import (
    answer_loss,
    bits_per_byte,
    byte_perplexity,
    greedy_match,
    is_right,
    log_loss,
    most_likely,
    most_likely_by_pmi,
    most_likely_per_byte,
    most_likely_per_character,
    most_likely_per_token,
    no_prediction,
    target_loglikelihood,
    target_perplexity,
    text_loglikelihood,
    token_perplexity,
    true_mass,
    word_perplexity,
)
from workbench.evaluation.metrics.metric import CorpusScore, ItemScore, Judge, Judged, Metric, Vote
from workbench.evaluation.records import Answer, Example


def generated(answer: Answer, example: Example) -> str | None:
    """Return the answer that the benchmark's `extract` rule found in the generated text, or None."""
    return answer.extracted


def extracted_by(extract: Callable[[str], str]) -> Judge:
    """Return a function that takes a prediction from an answer: `extract` applied to the generated text.

    The benchmark's `extract` rule is not used.
    """
    return lambda answer, example: extract(answer.generation or "")


def of_texts(compare: Callable[[str, str], float]) -> ItemScore:
    """Return a function that scores an item: the highest `compare(prediction, reference)` of its references.

    A missing prediction counts as an empty text.
    """

    def score(prediction: int | str | None, answer: Answer, example: Example) -> float:
        text = "" if prediction is None else str(prediction)
        return max(compare(text, reference) for reference in example.reference_texts)

    return score


def of_labels(compare: Callable[[Sequence[str], Sequence[str]], float]) -> CorpusScore:
    """Return a function that scores all items together: `compare` of all predicted labels and all targets."""

    def score(judged: Sequence[Judged]) -> float:
        predictions = ["" if item.prediction is None else str(item.prediction) for item in judged]
        return compare(predictions, [str(item.example.target) for item in judged])

    return score


def of_all(compare: Callable[[Sequence[str], Sequence[Sequence[str]]], float]) -> CorpusScore:
    """Return a function that scores all items together: `compare` of all predictions and their references."""

    def score(judged: Sequence[Judged]) -> float:
        predictions = ["" if item.prediction is None else str(item.prediction) for item in judged]
        return compare(predictions, [item.example.reference_texts for item in judged])

    return score


def of_one(compare: Callable[[Sequence[str], Sequence[Sequence[str]]], float]) -> ItemScore:
    """Return a function that scores one item: `compare`, a score of a corpus, applied to this item alone."""

    def score(prediction: int | str | None, answer: Answer, example: Example) -> float:
        return of_all(compare)([Judged(prediction, answer, example)])

    return score


def by_text(normal: Callable[[str], str]) -> Vote:
    """Return a function that counts predictions under their text, as `normal` writes it."""
    return lambda prediction, extract: normal(prediction)


def by_value(normal: Callable[[str], str]) -> Vote:
    """Return a function that counts extracted numbers under their value, and others under their text.

    An extracted number is right in any spelling of its value: `1/2` and `0.5` are one answer.
    """

    def vote(prediction: str, extract: Extract) -> str:
        return str(Fraction(prediction)) if extract is Extract.number else normal(prediction)

    return vote


def stated_answer(judge: Judge, score: ItemScore, vote: Vote, **more: Any) -> Metric:
    """Return a metric of the answer that a text states: it is right or wrong, and several have a majority.

    Args:
        judge: takes the stated answer from the text.
        score: returns 1 for a right answer, else 0.
        vote: returns under what an answer is counted for the majority.
        more: further fields of the metric.
    """
    return Metric(
        output_types=_TEXT,
        judge=judge,
        score=score,
        right_or_wrong=True,
        vote=vote,
        **more,
    )


_CHOICE = (OutputType.multiple_choice,)
_TEXT = (OutputType.generation,)
_HEAD = (OutputType.classification,)
_WHOLE = (OutputType.perplexity,)
_ROW = (OutputType.answer_loss,)

METRICS: dict[str, Metric] = {
    **instructions.METRICS,
    "acc": Metric(output_types=_CHOICE + _HEAD, judge=most_likely, score=is_right, guessing=True),
    "acc_norm": Metric(output_types=_CHOICE, judge=most_likely_per_character, score=is_right, guessing=True),
    "acc_bytes": Metric(output_types=_CHOICE, judge=most_likely_per_byte, score=is_right, guessing=True),
    "acc_token": Metric(output_types=_CHOICE, judge=most_likely_per_token, score=is_right, guessing=True),
    "acc_pmi": Metric(output_types=_CHOICE, judge=most_likely_by_pmi, score=is_right, guessing=True),
    "true_mass": Metric(output_types=_CHOICE, judge=most_likely, score=true_mass),
    "greedy_match": Metric(output_types=_CHOICE, judge=most_likely, score=greedy_match),
    "target_perplexity": Metric(
        output_types=_CHOICE, judge=most_likely, score=target_loglikelihood, corpus=target_perplexity
    ),
    "exact_match": stated_answer(
        generated,
        of_texts(text_similarity.same),
        by_value(text_similarity.comparable),
        guessing=True,
        compares_texts=True,
    ),
    "strict_match": stated_answer(extracted_by(number_after_marks), of_plain_targets, by_text(plain_vote)),
    "flexible_match": stated_answer(extracted_by(last_number), of_plain_targets, by_text(plain_vote)),
    "unpunctuated_match": stated_answer(
        extracted_by(str.strip), of_unpunctuated_targets, by_text(text_similarity.unpunctuated)
    ),
    "flexible_unpunctuated_match": stated_answer(
        extracted_by(last_number_as_written), of_unpunctuated_targets, by_text(text_similarity.unpunctuated)
    ),
    "char_f1": Metric(
        output_types=_TEXT, judge=generated, score=of_texts(text_similarity.char_f1), compares_texts=True
    ),
    "rouge1": Metric(
        output_types=_TEXT,
        judge=generated,
        score=of_texts(partial(text_similarity.rouge_n, n=1)),
        compares_texts=True,
    ),
    "rouge2": Metric(
        output_types=_TEXT,
        judge=generated,
        score=of_texts(partial(text_similarity.rouge_n, n=2)),
        compares_texts=True,
    ),
    "rougeL": Metric(
        output_types=_TEXT,
        judge=generated,
        score=of_texts(text_similarity.rouge_l),
        compares_texts=True,
    ),
    "pass@1": Metric(
        output_types=_TEXT,
        judge=program_tests.code,
        score=program_tests.passes,
        right_or_wrong=True,
        runs_programs=True,
        score_ahead=program_tests.run_ahead,
    ),
    "math_verify": stated_answer(
        generated,
        math_equality.states_target,
        by_value(text_similarity.comparable),
        same_answer=math_equality.same_value,
        needs=("math_verify",),
        extra="math",
        score_ahead=math_equality.compare_ahead,
    ),
    "cmrc_f1": Metric(
        output_types=_TEXT, judge=generated, score=of_texts(reading_answers.cmrc_f1), needs=("nltk",)
    ),
    "cmrc_em": stated_answer(
        generated, of_texts(reading_answers.cmrc_em), by_value(reading_answers.cmrc_text)
    ),
    "squad_f1": Metric(output_types=_TEXT, judge=generated, score=of_texts(reading_answers.squad_f1)),
    "squad_em": stated_answer(
        generated, of_texts(reading_answers.squad_em), by_value(reading_answers.squad_text)
    ),
    "bleu": Metric(
        output_types=_TEXT,
        judge=generated,
        score=of_one(text_similarity.bleu),
        corpus=of_all(text_similarity.bleu),
        needs=("sacrebleu",),
    ),
    "chrf": Metric(
        output_types=_TEXT,
        judge=generated,
        score=of_one(text_similarity.chrf),
        corpus=of_all(text_similarity.chrf),
        needs=("sacrebleu",),
    ),
    "f1": Metric(
        output_types=_CHOICE + _HEAD,
        judge=most_likely,
        score=is_right,
        corpus=of_labels(partial(label_agreement.f1, positive="1")),
    ),
    "macro_f1": Metric(
        output_types=_CHOICE + _HEAD,
        judge=most_likely,
        score=is_right,
        corpus=of_labels(label_agreement.macro_f1),
    ),
    "token_perplexity": Metric(
        output_types=_WHOLE, judge=no_prediction, score=text_loglikelihood, corpus=token_perplexity
    ),
    "word_perplexity": Metric(
        output_types=_WHOLE, judge=no_prediction, score=text_loglikelihood, corpus=word_perplexity
    ),
    "byte_perplexity": Metric(
        output_types=_WHOLE, judge=no_prediction, score=text_loglikelihood, corpus=byte_perplexity
    ),
    "bits_per_byte": Metric(
        output_types=_WHOLE, judge=no_prediction, score=text_loglikelihood, corpus=bits_per_byte
    ),
    "answer_loss": Metric(output_types=_ROW, judge=no_prediction, score=answer_loss),
    "log_loss": Metric(output_types=_HEAD, judge=most_likely, score=log_loss),
    "mcc": Metric(
        output_types=_CHOICE + _HEAD, judge=most_likely, score=is_right, corpus=of_labels(label_agreement.mcc)
    ),
}
