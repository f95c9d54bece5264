"""Metrics: how one answer scores, and how items make a score where that is not their mean."""

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from workbench.config.benchmark import OutputType
from workbench.errors import ConfigError
from workbench.evaluation.extraction.extract import last_number, last_number_as_written, number_after_marks
from workbench.evaluation.metrics import label_agreement, text_similarity
from workbench.evaluation.metrics.harness_matches import of_plain_targets, of_unpunctuated_targets
from workbench.evaluation.records import Answer, Example

_LARGEST_EXPONENT = math.log(sys.float_info.max)


class Judged(NamedTuple):
    """An item with the model's answer to it."""

    prediction: int | str | None
    answer: Answer
    example: Example


Judge = Callable[[Answer, Example], "int | str | None"]
ItemScore = Callable[["int | str | None", Answer, Example], float]
CorpusScore = Callable[[Sequence[Judged]], float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: what it takes as the model's answer, what that scores, and how items are put together."""

    output_types: tuple[OutputType, ...]
    judge: Judge
    """The model's answer: number of the choice or label, or text."""
    score: ItemScore
    """Score of one item."""
    corpus: CorpusScore | None = None
    """Score of many items where it isn't the mean of theirs."""
    guessing: bool = False
    """Whether guessing among the choices has an expected score that is worth showing."""
    compares_texts: bool = False
    """Whether `texts.comparable` decides the score."""
    needs: str = ""
    """A package that must be installed for it."""


def likeliest(answer: Answer, example: Example) -> int:
    """The choice of the highest log-likelihood; the first one where several are equal."""
    return _best(answer.loglikelihoods)


def likeliest_per_character(answer: Answer, example: Example) -> int:
    """The choice of the highest log-likelihood per character of its text, delimiter not counted."""
    lengths = [len(text) for text in example.continuations]
    return _best([ll / length for ll, length in zip(answer.loglikelihoods, lengths, strict=True)])


def likeliest_per_byte(answer: Answer, example: Example) -> int:
    """The choice of the highest log-likelihood per UTF-8 byte: fair between Chinese and English choices."""
    encoded = [text.encode("utf-8") for text in example.continuations]
    return _best([ll / len(text) for ll, text in zip(answer.loglikelihoods, encoded, strict=True)])


def likeliest_per_token(answer: Answer, example: Example) -> int:
    """The choice of the highest log-likelihood per token."""
    return _best([ll / count for ll, count in zip(answer.loglikelihoods, answer.num_tokens, strict=True)])


def likeliest_pmi(answer: Answer, example: Example) -> int:
    """The choice whose likelihood the question raises most over what it has after the unconditional prompt.

    Source: Holtzman et al., Surface form competition, arXiv:2104.08315.
    """
    return _best([ll - free for ll, free in zip(answer.loglikelihoods, answer.unconditional, strict=True)])


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def is_right(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """1.0 if the prediction is the target, or one of the targets."""
    targets = example.target if isinstance(example.target, tuple) else (example.target,)
    return float(prediction in targets)


def true_mass(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Share of the choices' probability that lies on the right ones (TruthfulQA's mc2)."""
    targets = example.target if isinstance(example.target, tuple) else (example.target,)
    top = max(answer.loglikelihoods)
    weights = [math.exp(ll - top) for ll in answer.loglikelihoods]
    return math.fsum(weights[t] for t in targets if isinstance(t, int)) / math.fsum(weights)


def greedy_match(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """1.0 if every token of the target is the likeliest one (LAMBADA's accuracy)."""
    assert isinstance(example.target, int)
    return float(answer.greedy[example.target])


def target_loglikelihood(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Log-likelihood of the target, in nats."""
    assert isinstance(example.target, int)
    return answer.loglikelihoods[example.target]


def generated(answer: Answer, example: Example) -> str | None:
    """The generated text, after extraction."""
    return answer.extracted


def found_by(extract: Callable[[str], str]) -> Judge:
    """The generated text's answer, as `extract` finds it, whatever the benchmark's own extraction is."""
    return lambda answer, example: extract(answer.generation or "")


def of_texts(compare: Callable[[str, str], float]) -> ItemScore:
    """The score of a generated text by a comparison with each reference; the best one counts.

    No text is an empty one.
    """

    def score(prediction: int | str | None, answer: Answer, example: Example) -> float:
        text = "" if prediction is None else str(prediction)
        return max(compare(text, reference) for reference in example.reference_texts)

    return score


def of_labels(compare: Callable[[Sequence[str], Sequence[str]], float]) -> CorpusScore:
    """The score of all chosen labels together, by a comparison of predictions with targets."""

    def score(judged: Sequence[Judged]) -> float:
        answers = ["" if one.prediction is None else str(one.prediction) for one in judged]
        return compare(answers, [str(one.example.target) for one in judged])

    return score


def of_all(compare: Callable[[Sequence[str], Sequence[Sequence[str]]], float]) -> CorpusScore:
    """The score of all generated texts together, by a comparison with each one's references."""

    def score(judged: Sequence[Judged]) -> float:
        answers = ["" if one.prediction is None else str(one.prediction) for one in judged]
        return compare(answers, [one.example.reference_texts for one in judged])

    return score


def of_one(compare: Callable[[Sequence[str], Sequence[Sequence[str]]], float]) -> ItemScore:
    """The same for a single text."""

    def score(prediction: int | str | None, answer: Answer, example: Example) -> float:
        return of_all(compare)([Judged(prediction, answer, example)])

    return score


def target_perplexity(judged: Sequence[Judged]) -> float:
    """Exponential of the mean negative log-likelihood of the targets (LAMBADA's perplexity)."""
    nats = -math.fsum(target_loglikelihood(*one) for one in judged) / len(judged)
    return _exponential(nats, "target_perplexity")


def nothing(answer: Answer, example: Example) -> None:
    """No answer: a text is predicted, not judged."""


def text_loglikelihood(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Log-likelihood of the whole text, in nats."""
    return answer.loglikelihoods[0]


def answer_loss(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Negative log-likelihood of a token of the row's answers, in nats: the mean over the row's tokens."""
    return -answer.loglikelihoods[0] / answer.num_tokens[0]


def log_loss(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Negative logarithm of the probability that the right label is given, in nats."""
    assert isinstance(example.target, int)
    return -answer.loglikelihoods[example.target]


def _perplexity(judged: Sequence[Judged], size: Callable[[Judged], int]) -> float:
    total = math.fsum(one.answer.loglikelihoods[0] for one in judged)
    return -total / sum(size(one) for one in judged)


def _exponential(nats: float, name: str) -> float:
    """A perplexity from nats a piece.

    Raises:
        ConfigError: no float holds it, as where a text without spaces counts as one word.
    """
    if nats > _LARGEST_EXPONENT:
        raise ConfigError(
            f"metrics: {name} is e^{nats:.0f}, more than a number can hold: such texts have too few pieces "
            f"of this kind (leave it out of the benchmark's metrics; the answers are kept)"
        )
    return math.exp(nats)


def _num_bytes(one: Judged) -> int:
    return len(one.example.questions[0].encode("utf-8"))


def _num_words(one: Judged) -> int:
    return len(re.split(r"\s+", one.example.questions[0]))


def token_perplexity(judged: Sequence[Judged]) -> float:
    """Perplexity per token of this model's tokenizer: not comparable between tokenizers."""
    return _exponential(_perplexity(judged, lambda one: one.answer.num_tokens[0]), "token_perplexity")


def word_perplexity(judged: Sequence[Judged]) -> float:
    """Perplexity per word, split at white space. Source: lm-evaluation-harness, `word_perplexity`."""
    return _exponential(_perplexity(judged, _num_words), "word_perplexity")


def byte_perplexity(judged: Sequence[Judged]) -> float:
    """Perplexity per UTF-8 byte: comparable between tokenizers."""
    return _exponential(_perplexity(judged, _num_bytes), "byte_perplexity")


def bits_per_byte(judged: Sequence[Judged]) -> float:
    """Bits that the model needs for a UTF-8 byte of the text: comparable between tokenizers."""
    return _perplexity(judged, _num_bytes) / math.log(2)


_CHOICE = (OutputType.multiple_choice,)
_TEXT = (OutputType.generation,)
_HEAD = (OutputType.classification,)
_WHOLE = (OutputType.perplexity,)
_ROW = (OutputType.answer_loss,)

METRICS: dict[str, Metric] = {
    "acc": Metric(output_types=_CHOICE + _HEAD, judge=likeliest, score=is_right, guessing=True),
    "acc_norm": Metric(output_types=_CHOICE, judge=likeliest_per_character, score=is_right, guessing=True),
    "acc_bytes": Metric(output_types=_CHOICE, judge=likeliest_per_byte, score=is_right, guessing=True),
    "acc_token": Metric(output_types=_CHOICE, judge=likeliest_per_token, score=is_right, guessing=True),
    "acc_pmi": Metric(output_types=_CHOICE, judge=likeliest_pmi, score=is_right, guessing=True),
    "true_mass": Metric(output_types=_CHOICE, judge=likeliest, score=true_mass),
    "greedy_match": Metric(output_types=_CHOICE, judge=likeliest, score=greedy_match),
    "target_perplexity": Metric(
        output_types=_CHOICE, judge=likeliest, score=target_loglikelihood, corpus=target_perplexity
    ),
    "exact_match": Metric(
        output_types=_TEXT, judge=generated, score=of_texts(text_similarity.same), compares_texts=True
    ),
    "strict_match": Metric(output_types=_TEXT, judge=found_by(number_after_marks), score=of_plain_targets),
    "flexible_match": Metric(output_types=_TEXT, judge=found_by(last_number), score=of_plain_targets),
    "unpunctuated_match": Metric(
        output_types=_TEXT, judge=found_by(str.strip), score=of_unpunctuated_targets
    ),
    "flexible_unpunctuated_match": Metric(
        output_types=_TEXT, judge=found_by(last_number_as_written), score=of_unpunctuated_targets
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
    "bleu": Metric(
        output_types=_TEXT,
        judge=generated,
        score=of_one(text_similarity.bleu),
        corpus=of_all(text_similarity.bleu),
        needs="sacrebleu",
    ),
    "chrf": Metric(
        output_types=_TEXT,
        judge=generated,
        score=of_one(text_similarity.chrf),
        corpus=of_all(text_similarity.chrf),
        needs="sacrebleu",
    ),
    "f1": Metric(
        output_types=_CHOICE + _HEAD,
        judge=likeliest,
        score=is_right,
        corpus=of_labels(partial(label_agreement.f1, positive="1")),
    ),
    "macro_f1": Metric(
        output_types=_CHOICE + _HEAD,
        judge=likeliest,
        score=is_right,
        corpus=of_labels(label_agreement.macro_f1),
    ),
    "token_perplexity": Metric(
        output_types=_WHOLE, judge=nothing, score=text_loglikelihood, corpus=token_perplexity
    ),
    "word_perplexity": Metric(
        output_types=_WHOLE, judge=nothing, score=text_loglikelihood, corpus=word_perplexity
    ),
    "byte_perplexity": Metric(
        output_types=_WHOLE, judge=nothing, score=text_loglikelihood, corpus=byte_perplexity
    ),
    "bits_per_byte": Metric(
        output_types=_WHOLE, judge=nothing, score=text_loglikelihood, corpus=bits_per_byte
    ),
    "answer_loss": Metric(output_types=_ROW, judge=nothing, score=answer_loss),
    "log_loss": Metric(output_types=_HEAD, judge=likeliest, score=log_loss),
    "mcc": Metric(
        output_types=_CHOICE + _HEAD, judge=likeliest, score=is_right, corpus=of_labels(label_agreement.mcc)
    ),
}
