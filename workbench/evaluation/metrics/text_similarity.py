"""Measures the similarity of two texts, Chinese or English: characters, words, longest common subsequence."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from workbench.evaluation.extraction.cleaning import INVISIBLE

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORD = re.compile(f"{_HAN.pattern}|(?:(?!{_HAN.pattern})[^\\W_])+")


COMPARISON_VERSION = 2
"""Raised when `comparable` changes: scores of different versions are not comparable."""


def comparable(text: str) -> str:
    """Normalize a text for comparison: composed (NFC), case folded, trimmed, without invisible characters."""
    visible = INVISIBLE.sub("", text)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold()).strip()


def same(prediction: str, target: str) -> float:
    """Return 1.0 if both texts are equal after `comparable`, else 0.0."""
    return float(comparable(prediction) == comparable(target))


def same_without_punctuation(prediction: str, target: str) -> float:
    """Return 1.0 if both texts are equal in lower case without ASCII punctuation: `-3.50` equals `350`.

    Source: lm-evaluation-harness 0.4.13, exact_match with ignore_case and ignore_punctuation.
    """
    return float(unpunctuated(prediction) == unpunctuated(target))


def unpunctuated(text: str) -> str:
    """Return a text in lower case without ASCII punctuation."""
    return text.lower().translate(_NO_PUNCTUATION)


def char_f1(prediction: str, target: str) -> float:
    """Return the F1 of the bags of characters, without spaces: the usual F1 for Chinese answers.

    The evaluation script of CMRC 2018 counts something else: see `reading_answers.cmrc_f1`.
    """
    return _f1(_characters(prediction), _characters(target))


def _characters(text: str) -> Counter[str]:
    return Counter("".join(comparable(text).split()))


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words without punctuation; every Chinese character is a word."""
    return _WORD.findall(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).casefold())


def has_chinese(text: str) -> bool:
    """Return whether a text has a Chinese character."""
    return bool(_HAN.search(text))


def rouge_n(prediction: str, target: str, n: int) -> float:
    """Return ROUGE-N: the F1 of the n-grams.

    Words are those of rouge_score (without stemming); every Chinese character is a word. Source: Lin, ROUGE:
    a package for automatic evaluation of summaries, 2004.
    """
    return _f1(_ngrams(tokens(prediction), n), _ngrams(tokens(target), n))


def rouge_l(prediction: str, target: str) -> float:
    """Return ROUGE-L: the F1 of the longest common subsequence of words. Source: see rouge_n."""
    first, second = tokens(prediction), tokens(target)
    common = _longest_common(first, second)
    return 2 * common / (len(first) + len(second)) if common else 0.0


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


Bag = Counter[str] | Counter[tuple[str, ...]]


def _f1(predicted: Bag, target: Bag) -> float:
    common = sum((predicted & target).values())  # type: ignore[operator]
    return 2 * common / (sum(predicted.values()) + sum(target.values())) if common else 0.0


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    best = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for column, other in enumerate(second, 1):
            above = best[column]
            best[column] = diagonal + 1 if word == other else max(above, best[column - 1])
            diagonal = above
    return best[-1]


def bleu(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Return the corpus BLEU from 0 to 1, by sacrebleu; its tokenizer `zh` splits Chinese into characters.

    Several references of a prediction count together, as in sacrebleu: an n-gram is right if it occurs in any
    of them, and the length is compared with the closest reference.

    Raises:
        ImportError: sacrebleu, of the extra `metrics`, isn't installed.
    """
    import sacrebleu  # the optional extra `metrics`

    streams = _streams(references)
    tokenizer = "zh" if any(has_chinese(text) for stream in streams for text in stream if text) else "13a"
    scorer = sacrebleu.BLEU(tokenize=tokenizer, effective_order=len(predictions) == 1)
    return float(scorer.corpus_score(list(predictions), streams).score) / 100


def chrf(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Return the corpus chrF from 0 to 1, by sacrebleu; the best of several references counts.

    Raises:
        ImportError: sacrebleu, of the extra `metrics`, isn't installed.
    """
    import sacrebleu  # the optional extra `metrics`

    return float(sacrebleu.CHRF().corpus_score(list(predictions), _streams(references)).score) / 100


def _streams(references: Sequence[str | Sequence[str]]) -> list[list[Any]]:
    """Transpose the references for sacrebleu: list k has the k-th reference of each prediction, or None."""
    by_prediction = [[texts] if isinstance(texts, str) else list(texts) for texts in references]
    return [list(stream) for stream in zip_longest(*by_prediction)]
