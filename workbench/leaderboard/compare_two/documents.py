"""Pairs the items of two lists that ask the same question, by the text of question and choices.

Tools put different words around a question and label its choices differently. So a question is represented by
all runs of 8 letters in its lines, without those that many items share: instructions, examples, labels.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from workbench.evaluation.records import Prediction

PIECE = 8
"""Letters of a piece; a shorter line is one piece."""
SHORTEST_BLOCK = 30
"""Letters that the last paragraphs of a prompt need to be taken as its question."""
LONGEST_TEXT = 4000
MOST_FREQUENT = 3
"""A piece that more items of a list than this share is ignored."""
SAME = 0.8
"""Two items ask the same question if they share at least this part of the pieces of the item with fewer
pieces."""
LABEL = re.compile(r"^\s*[(（\[]?[A-Za-z0-9]{1,2}[)）\].、:：]\s*")
"""Label before a choice, such as `A. ` or `(B) `."""


def matched_documents(first: Sequence[Prediction], second: Sequence[Prediction]) -> list[tuple[int, int]]:
    """Return (index in first, index in second) of items that ask the same question, each item at most once.

    Questions needn't be equal: two items match if they have at least 80% (`SAME`) of the 8-letter runs of
    the shorter one's question and choices in common, not counting runs that many items have. If both targets
    are indices of choices, these must be equal. The pairs are in the order of the first list.
    """
    left, right = _pieces(first), _pieces(second)
    where: dict[str, list[int]] = {}
    for index, pieces in enumerate(right):
        for piece in pieces:
            where.setdefault(piece, []).append(index)
    candidates = []
    for index, pieces in enumerate(left):
        votes = Counter(there for piece in pieces for there in where.get(piece, ()))
        for there, count in votes.most_common(2):
            share = count / min(len(pieces), len(right[there]))
            if share >= SAME and _agree(first[index], second[there]):
                candidates.append((-share, -count, abs(index - there), index, there))
    used_left, used_right, pairs = set(), set(), []
    for *_, index, there in sorted(candidates):
        if index not in used_left and there not in used_right:
            used_left.add(index)
            used_right.add(there)
            pairs.append((index, there))
    return sorted(pairs)


def _agree(first: Prediction, second: Prediction) -> bool:
    """Return whether two items have the same right choice; True if either target is not a choice's index."""
    if isinstance(first.target, int) and isinstance(second.target, int):
        return first.target == second.target
    return True


def _pieces(predictions: Sequence[Prediction]) -> list[set[str]]:
    """Return, for each item, all runs of `PIECE` letters in its question and choices.

    Pieces that more than `MOST_FREQUENT` items share are left out.
    """
    found = [_lines(prediction) for prediction in predictions]
    counts = Counter(piece for pieces in found for piece in pieces)
    return [{piece for piece in pieces if counts[piece] <= MOST_FREQUENT} for pieces in found]


def _lines(prediction: Prediction) -> set[str]:
    lines = [*question_of(prediction.context).splitlines(), *prediction.choices]
    texts = [normal(LABEL.sub("", line)) for line in lines]
    return {piece for text in texts if text for piece in _parts(text)}


def _parts(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(max(1, len(text) - PIECE + 1))]


def question_of(context: str) -> str:
    """Return the end of a prompt as its question: as few last paragraphs as have at least 30 letters."""
    blocks = context[-LONGEST_TEXT:].split("\n\n")
    text = blocks.pop()
    while blocks and len(normal(text)) < SHORTEST_BLOCK:
        text = f"{blocks.pop()}\n{text}"
    return text


def normal(text: str) -> str:
    """Normalize a text for comparison: NFKC (full-width to plain), case-folded, only letters and digits."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())
