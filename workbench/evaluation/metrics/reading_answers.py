"""Scores answers of reading comprehension as the scripts of CMRC 2018 and SQuAD do."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

_CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""Characters that CMRC's script removes. Its list also has `……`, which no single character equals."""
_CMRC_CHARACTER = re.compile("[\u4e00-\u9fa5]")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def cmrc_em(prediction: str, target: str) -> float:
    """Return 1.0 if both texts are equal in lower case without CMRC's punctuation, else 0.0.

    Source: CMRC 2018 (arXiv 1810.07366), cmrc2018_evaluate.py, calc_em_score.
    """
    return float(cmrc_text(prediction) == cmrc_text(target))


def cmrc_f1(prediction: str, target: str) -> float:
    """Return the F1 of the longest run of segments that both texts have: 2 x its length / all segments.

    The run is contiguous: the script's function is named after the longest common subsequence, but it finds
    the longest common substring.
    Source: CMRC 2018 (arXiv 1810.07366), cmrc2018_evaluate.py, calc_f1_score.
    """
    first, second = cmrc_segments(prediction), cmrc_segments(target)
    common = _longest_run(first, second)
    return 2 * common / (len(first) + len(second)) if common else 0.0


def cmrc_segments(text: str) -> list[str]:
    """Split a text without CMRC's punctuation into Chinese characters and the words between them."""
    segments: list[str] = []
    other = ""
    for character in cmrc_text(text):
        if _CMRC_CHARACTER.match(character):
            segments += [*latin_words(other), character]
            other = ""
        else:
            other += character
    return segments + latin_words(other)


def latin_words(text: str) -> list[str]:
    """Return the words and punctuation marks of a text by NLTK, as CMRC's script does.

    The script splits sentences by NLTK's model of English, which is a download. Here the model is untrained:
    the full stop of `st. john` is a word of its own, that of `h. mcarthur` is not.
    """
    if not text.strip():
        return []
    sentences, words = _tokenizers()
    return [word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)]


@cache
def _tokenizers() -> tuple[Any, Any]:
    """Return NLTK's tokenizers of sentences and of words."""
    from nltk.tokenize.destructive import NLTKWordTokenizer  # the optional extra `metrics`
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return PunktSentenceTokenizer(), NLTKWordTokenizer()


def cmrc_text(text: str) -> str:
    """Return a text in lower case without CMRC's punctuation."""
    return "".join(character for character in text.lower().strip() if character not in _CMRC_PUNCTUATION)


def _longest_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest contiguous run that both sequences have."""
    longest = 0
    previous = [0] * (len(second) + 1)
    for segment in first:
        current = [0]
        for column, other in enumerate(second):
            current.append(previous[column] + 1 if segment == other else 0)
        longest = max(longest, *current)
        previous = current
    return longest


def squad_em(prediction: str, target: str) -> float:
    """Return 1.0 if both texts are equal as `squad_text` normalizes them, else 0.0."""
    return float(squad_text(prediction) == squad_text(target))


def squad_f1(prediction: str, target: str) -> float:
    """Return the F1 of the bags of words that `squad_text` leaves; of two empty texts 1.0.

    Source: SQuAD (arXiv 1606.05250), evaluation script of version 2.0; that of 1.1 gives two empty texts 0.
    """
    first, second = Counter(squad_text(prediction).split()), Counter(squad_text(target).split())
    if not first or not second:
        return float(first == second)
    return 2 * (first & second).total() / (first.total() + second.total())


def squad_text(text: str) -> str:
    """Return a text in lower case without ASCII punctuation and English articles, with single spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())
