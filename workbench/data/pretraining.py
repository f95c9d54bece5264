"""Plain documents for pre-training: every token is trained, and nothing is cut away."""

from collections.abc import Sequence

from workbench.data.tokens.segments import Encoder, ids_of
from workbench.errors import DataError


def document_ids(
    texts: Sequence[str], encoder: Encoder, prefix: Sequence[int], end: int | None
) -> list[list[int]]:
    """The ids of each document, between the tokenizer's special beginning and its end-of-sequence token.

    Raises:
        DataError: There is no such token.
    """
    if end is None:
        raise DataError("data.path: the tokenizer has no end-of-sequence token to tell documents apart")
    return [[*prefix, *document, end] for document in ids_of(list(texts), encoder)]


def pieces(document: Sequence[int], max_length: int) -> list[list[int]]:
    """A document in rows of at most `max_length` tokens; a last one alone, unpredictable, is left out."""
    starts = range(0, len(document), max_length)
    return [list(document[start : start + max_length]) for start in starts if len(document) - start > 1]


def blocks(documents: Sequence[Sequence[int]], max_length: int) -> list[tuple[list[int], list[int]]]:
    """All documents as one stream cut into blocks of `max_length` tokens; the last may be shorter.

    Returns:
        The ids of each block, and the lengths of the pieces of documents in it.
    """
    found: list[tuple[list[int], list[int]]] = []
    ids: list[int] = []
    lengths: list[int] = []
    for document in documents:
        start = 0
        while start < len(document):
            piece = document[start : start + max_length - len(ids)]
            ids.extend(piece)
            lengths.append(len(piece))
            start += len(piece)
            if len(ids) == max_length:
                found.append((ids, lengths))
                ids, lengths = [], []
    return [*found, (ids, lengths)] if len(ids) > 1 else found
