"""Computes predictions and scores from log-likelihoods: of choices, targets, labels and whole texts."""

import math
import re
import sys
from collections.abc import Callable, Sequence

from workbench.errors import ConfigError
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.records import Answer, Example

_LARGEST_EXPONENT = math.log(sys.float_info.max)


def most_likely(answer: Answer, example: Example) -> int:
    """Return the index of the choice or label with the highest log-likelihood; of equal ones, the first."""
    return _best(answer.loglikelihoods)


def most_likely_per_character(answer: Answer, example: Example) -> int:
    """Return the index of the choice with the highest log-likelihood per character, delimiter not counted."""
    lengths = [len(text) for text in example.continuations]
    return _best([ll / length for ll, length in zip(answer.loglikelihoods, lengths, strict=True)])


def most_likely_per_byte(answer: Answer, example: Example) -> int:
    """Return the index of the choice with the highest log-likelihood per UTF-8 byte.

    This is fair between Chinese and English choices. The delimiter isn't counted.
    """
    encoded = [text.encode("utf-8") for text in example.continuations]
    return _best([ll / len(text) for ll, text in zip(answer.loglikelihoods, encoded, strict=True)])


def most_likely_per_token(answer: Answer, example: Example) -> int:
    """Return the index of the choice with the highest log-likelihood per scored token."""
    return _best([ll / count for ll, count in zip(answer.loglikelihoods, answer.num_tokens, strict=True)])


def most_likely_by_pmi(answer: Answer, example: Example) -> int:
    """Return the index of the choice with the highest pointwise mutual information with the question.

    That is its log-likelihood minus its log-likelihood after the unconditional prompt.

    Source: Holtzman et al., Surface form competition, arXiv:2104.08315.
    """
    return _best([ll - prior for ll, prior in zip(answer.loglikelihoods, answer.unconditional, strict=True)])


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def is_right(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return 1.0 if the prediction is the target or one of the targets, else 0.0."""
    targets = example.target if isinstance(example.target, tuple) else (example.target,)
    return float(prediction in targets)


def true_mass(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return the right choices' share of the probability of all choices (TruthfulQA's mc2)."""
    targets = example.target if isinstance(example.target, tuple) else (example.target,)
    top = max(answer.loglikelihoods)
    weights = [math.exp(ll - top) for ll in answer.loglikelihoods]
    return math.fsum(weights[t] for t in targets if isinstance(t, int)) / math.fsum(weights)


def greedy_match(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return 1.0 if every token of the target is the argmax (LAMBADA's accuracy), else 0.0."""
    assert isinstance(example.target, int)
    return float(answer.greedy[example.target])


def target_loglikelihood(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return the log-likelihood of the only right choice, in nats."""
    assert isinstance(example.target, int)
    return answer.loglikelihoods[example.target]


def target_perplexity(judged: Sequence[Judged]) -> float:
    """Return exp of the mean negative log-likelihood of the targets (LAMBADA's perplexity).

    Raises:
        ConfigError: The perplexity overflows a float.
    """
    nats = -math.fsum(target_loglikelihood(*item) for item in judged) / len(judged)
    return _exponential(nats, "target_perplexity")


def no_prediction(answer: Answer, example: Example) -> None:
    """Return None: where texts are scored, the model predicts nothing that could be right or wrong."""


def text_loglikelihood(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return the log-likelihood of the whole text, in nats."""
    return answer.loglikelihoods[0]


def answer_loss(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return the mean negative log-likelihood of the tokens of the row's answers, in nats."""
    return -answer.loglikelihoods[0] / answer.num_tokens[0]


def log_loss(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return the negative log-probability of the right label, in nats."""
    assert isinstance(example.target, int)
    return -answer.loglikelihoods[example.target]


def _mean_nats(judged: Sequence[Judged], size: Callable[[Judged], int]) -> float:
    """Return the negative log-likelihood of all texts per unit (token, word, byte), in nats.

    `size` counts the units of an item.
    """
    total = math.fsum(item.answer.loglikelihoods[0] for item in judged)
    return -total / sum(size(item) for item in judged)


def _exponential(nats: float, name: str) -> float:
    """Return the perplexity for a mean negative log-likelihood.

    Raises:
        ConfigError: The perplexity overflows a float, for example if a text without spaces is one word.
    """
    if nats > _LARGEST_EXPONENT:
        raise ConfigError(
            f"metrics: {name} is e^{nats:.0f}, which overflows: these texts have too few words, bytes or "
            "tokens for it (remove it from the benchmark's metrics; the answers are cached)"
        )
    return math.exp(nats)


def _num_bytes(item: Judged) -> int:
    return len(item.example.questions[0].encode("utf-8"))


def _num_words(item: Judged) -> int:
    return len(re.split(r"\s+", item.example.questions[0]))


def token_perplexity(judged: Sequence[Judged]) -> float:
    """Return the perplexity per token: not comparable between tokenizers.

    Raises:
        ConfigError: The perplexity overflows a float.
    """
    return _exponential(_mean_nats(judged, lambda item: item.answer.num_tokens[0]), "token_perplexity")


def word_perplexity(judged: Sequence[Judged]) -> float:
    """Return the perplexity per word, split at white space, as lm-evaluation-harness does.

    Raises:
        ConfigError: The perplexity overflows a float.
    """
    return _exponential(_mean_nats(judged, _num_words), "word_perplexity")


def byte_perplexity(judged: Sequence[Judged]) -> float:
    """Return the perplexity per UTF-8 byte: comparable between tokenizers.

    Raises:
        ConfigError: The perplexity overflows a float.
    """
    return _exponential(_mean_nats(judged, _num_bytes), "byte_perplexity")


def bits_per_byte(judged: Sequence[Judged]) -> float:
    """Return the bits that the model needs per UTF-8 byte of text: comparable between tokenizers."""
    return _mean_nats(judged, _num_bytes) / math.log(2)
