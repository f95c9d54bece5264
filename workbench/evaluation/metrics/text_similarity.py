"""How alike two texts are, Chinese or English: characters, words, longest common subsequence."""

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
"""Another one whenever `comparable` makes another text of one: such scores don't compare."""


def comparable(text: str) -> str:
    """The text as it is compared: composed (NFC), case folded, trimmed, without characters nobody sees."""
    seen = INVISIBLE.sub("", text)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", seen).casefold()).strip()


def same(prediction: str, target: str) -> float:
    """1.0 if both are the same text as `comparable` makes it, else 0.0."""
    return float(comparable(prediction) == comparable(target))


def same_without_punctuation(prediction: str, target: str) -> float:
    """1.0 if both are equal in small letters without ASCII punctuation, else 0.0: `-3.50` equals `350`.

    Source: lm-evaluation-harness 0.4.13, exact_match with ignore_case and ignore_punctuation.
    """
    return float(prediction.lower().translate(_NO_PUNCTUATION) == target.lower().translate(_NO_PUNCTUATION))


def char_f1(prediction: str, target: str) -> float:
    """Harmonic mean of precision and recall of characters, spaces aside: the usual F1 for Chinese answers.

    Source: CMRC 2018 evaluation script counts the longest common part; this is the bag-of-characters form.
    """
    return _f1(_characters(prediction), _characters(target))


def _characters(text: str) -> Counter[str]:
    return Counter("".join(comparable(text).split()))


def tokens(text: str) -> list[str]:
    """Words in small letters without punctuation; every Chinese character is a word."""
    return _WORD.findall(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).casefold())


def has_chinese(text: str) -> bool:
    """Whether there is a Chinese character in a text."""
    return bool(_HAN.search(text))


def rouge_n(prediction: str, target: str, n: int) -> float:
    """F1 of the runs of `n` words.

    Source: Lin, ROUGE: a package for automatic evaluation of summaries, 2004; words as rouge_score has them
    (without stemming), Chinese character by character.
    """
    return _f1(_runs(tokens(prediction), n), _runs(tokens(target), n))


def rouge_l(prediction: str, target: str) -> float:
    """F1 of the longest common subsequence of words. Source: as of rouge_n."""
    first, second = tokens(prediction), tokens(target)
    common = _longest_common(first, second)
    return 2 * common / (len(first) + len(second)) if common else 0.0


def _runs(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def _f1(got: Counter[str] | Counter[tuple[str, ...]], want: Counter[str] | Counter[tuple[str, ...]]) -> float:
    common = sum((got & want).values())  # type: ignore[operator]
    return 2 * common / (sum(got.values()) + sum(want.values())) if common else 0.0


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    best = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, 1):
            above = best[place]
            best[place] = before + 1 if word == other else max(above, best[place - 1])
            before = above
    return best[-1]


def bleu(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Corpus BLEU from 0 to 1, by sacrebleu; Chinese is cut into characters as its tokenizer `zh` does.

    Several references of a prediction count together, as sacrebleu has it: each run of words is right that
    one of them has, and the length is held against the nearest of theirs.
    """
    import sacrebleu  # the optional extra `metrics`

    streams = _streams(references)
    tokenizer = "zh" if any(has_chinese(text) for stream in streams for text in stream if text) else "13a"
    found = sacrebleu.BLEU(tokenize=tokenizer, effective_order=len(predictions) == 1)
    return float(found.corpus_score(list(predictions), streams).score) / 100


def chrf(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Corpus chrF from 0 to 1, by sacrebleu; of several references of a prediction the best one counts."""
    import sacrebleu  # the optional extra `metrics`

    return float(sacrebleu.CHRF().corpus_score(list(predictions), _streams(references)).score) / 100


def _streams(references: Sequence[str | Sequence[str]]) -> list[list[Any]]:
    """First references of all predictions, second references, ..., in sacrebleu's order; None if missing."""
    lists = [[texts] if isinstance(texts, str) else list(texts) for texts in references]
    return [list(stream) for stream in zip_longest(*lists)]
