"""Encodes plain documents for pre-training: the loss is on every token, and no text is cut off."""

from collections.abc import Sequence

from workbench.data.tokens.segments import Encoder, ids_of
from workbench.errors import DataError


def document_ids(
    texts: Sequence[str], encoder: Encoder, prefix: Sequence[int], end: int | None
) -> list[list[int]]:
    """Return the ids of each document, between the begin tokens and the end-of-sequence token.

    Args:
        texts: The documents.
        encoder: Encodes texts without special tokens.
        prefix: Ids of the begin tokens.
        end: Id of the end-of-sequence token; None: the tokenizer has none.

    Raises:
        DataError: The tokenizer has no end-of-sequence token.
    """
    if end is None:
        raise DataError("data.path: the tokenizer has no end-of-sequence token to separate documents")
    return [[*prefix, *document, end] for document in ids_of(list(texts), encoder)]


def pieces(document: Sequence[int], max_length: int) -> list[list[int]]:
    """Split a document's ids into lists of at most `max_length`; a last list of a single id is left out."""
    starts = range(0, len(document), max_length)
    return [list(document[start : start + max_length]) for start in starts if len(document) - start > 1]


def blocks(documents: Sequence[Sequence[int]], max_length: int) -> list[tuple[list[int], list[int]]]:
    """Concatenate the ids of documents and split them into blocks of `max_length`; the last may be shorter.

    A last block of a single token is dropped, because nothing predicts its token.

    Returns:
        For each block (its ids, the lengths of the documents or parts of documents in it).
    """
    full_blocks: list[tuple[list[int], list[int]]] = []
    ids: list[int] = []
    lengths: list[int] = []
    for document in documents:
        start = 0
        while start < len(document):
            span = document[start : start + max_length - len(ids)]
            ids.extend(span)
            lengths.append(len(span))
            start += len(span)
            if len(ids) == max_length:
                full_blocks.append((ids, lengths))
                ids, lengths = [], []
    return [*full_blocks, (ids, lengths)] if len(ids) > 1 else full_blocks
