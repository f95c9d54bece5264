"""Reads SentencePiece models, such as LLaMA's tokenizer.model, without the sentencepiece package."""

import math
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError
from workbench.files import LONGEST_JSON
from workbench.models.tokenizers.tokenizer_bounds import MAX_GROWTH, MAX_TOKENS, longest_replacement

UNMATCHED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 0, 1, 2, 3, 4, 5, 6
"""Kinds of pieces. UNMATCHED is not in any file: this project adds such pieces, which have an id but match
no text."""
BPE = 2
"""Number of the model type BPE in the file."""
MAX_VARINT_BITS = 70
"""Largest number of bits of a variable-length integer."""
MAX_PIECE = 512
"""Largest number of characters of a piece; SentencePiece's default is 16."""


@dataclass(frozen=True)
class Piece:
    """Entry of a SentencePiece vocabulary; its index is the token id."""

    text: str
    score: float
    """The neighbours that form the piece with the highest score are merged first."""
    kind: int
    """NORMAL, UNKNOWN, CONTROL, ..."""


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    """The part of a `.model` file that determines how texts are encoded and decoded."""

    pieces: tuple[Piece, ...]
    """The vocabulary, in the order of token ids."""
    charsmap: bytes
    """Compiled character replacements; empty: no replacements."""
    rule: str
    """Name of the normalization rule, such as nfkc or identity."""
    dummy_prefix: bool
    """Whether a space is added before every text."""


def read_model(file: Path, limit: int = MAX_TOKENS) -> SentencePieceModel:
    """Read a `.model` file with at most `limit` pieces.

    Raises:
        CheckpointError: The file is damaged or has more pieces, or the model is of another type than LLaMA's
            tokenizers.
    """
    if (size := file.stat().st_size) > LONGEST_JSON:
        raise CheckpointError(f"{file}: {size:,} bytes (at most {LONGEST_JSON:,})")
    pieces, trainer, normalizer = [], {}, {}
    try:
        # Field numbers: sentencepiece_model.proto of github.com/google/sentencepiece.
        for number, value in _fields(file.read_bytes()):
            if number == 1:
                fields = dict(_fields(value))
                score = struct.unpack("<f", fields[2])[0] if 2 in fields else 0.0
                pieces.append(Piece(fields[1].decode("utf-8"), score, fields.get(3, NORMAL)))
                if len(pieces) > limit:
                    raise CheckpointError(f"{file}: more than {limit:,} pieces, the rows of the embedding")
            elif number == 2:
                trainer = dict(_fields(value))
            elif number == 3:
                normalizer = dict(_fields(value))
        charsmap, rule = normalizer.get(2, b""), normalizer.get(1, b"").decode("utf-8")
        if not isinstance(charsmap, bytes):
            raise TypeError("the character map is a number")
    except (IndexError, KeyError, ValueError, AttributeError, TypeError, struct.error) as error:
        raise CheckpointError(f"{file}: truncated, damaged or not a SentencePiece model") from error
    if not pieces:
        raise CheckpointError(f"{file}: truncated, damaged or not a SentencePiece model")
    _check_pieces(pieces, file)
    longest = max((len(piece.text) for piece in pieces if piece.kind in (NORMAL, UNUSED)), default=0)
    if longest > MAX_PIECE:
        raise CheckpointError(f"{file}: a piece has {longest:,} characters (at most {MAX_PIECE})")
    if (growth := longest_replacement(charsmap)) > MAX_GROWTH:
        raise CheckpointError(f"{file}: a character is replaced by {growth:,} bytes (at most {MAX_GROWTH:,})")
    if (model_type := trainer.get(3, 1)) != BPE:
        raise CheckpointError(
            f"{file}: the SentencePiece model type {model_type} is not supported (only BPE, 2)"
        )
    if normalizer.get(4, 1) or not normalizer.get(5, 1) or trainer.get(24, 0):
        raise CheckpointError(
            f"{file}: spaces are removed or follow words (only models with spaces before words)"
        )
    return SentencePieceModel(
        pieces=tuple(pieces),
        charsmap=charsmap,
        rule=rule,
        dummy_prefix=bool(normalizer.get(3, 1)),
    )


def check_distinct(pieces: Sequence[Piece], file: Path) -> None:
    """Check that no two of the pieces, at least one, have the same text.

    Raises:
        CheckpointError: Two pieces have; the message has `file` and the text.
    """
    text, count = Counter(piece.text for piece in pieces).most_common(1)[0]
    if count > 1:
        raise CheckpointError(f"{file}: the piece {text!r:.60} occurs {count} times")


def _check_pieces(pieces: list[Piece], file: Path) -> None:
    """Refuse pieces that SentencePiece itself would refuse.

    Raises:
        CheckpointError: A piece occurs twice, there isn't exactly one unknown piece, or a score isn't finite.
    """
    check_distinct(pieces, file)
    if (unknown := sum(piece.kind == UNKNOWN for piece in pieces)) != 1:
        raise CheckpointError(f"{file}: {unknown} pieces are for unknown text (exactly one is needed)")
    if not all(math.isfinite(piece.score) for piece in pieces):
        raise CheckpointError(f"{file}: a piece has the score NaN or infinity")


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value (int or bytes) of each field of a protocol buffer message, in order.

    Source: protobuf.dev/programming-guides/encoding.

    Raises:
        ValueError: The message is invalid.
        IndexError: The message is truncated.
    """
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire_type = key & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(wire_type)
        if wire_type == 2:
            size, position = _varint(data, position)
        if size is None or position + size > len(data):
            raise ValueError("not a protocol buffer message")
        yield key >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Decode the variable-length integer at `position`; return it and the position after it."""
    value = shift = 0
    while shift < MAX_VARINT_BITS:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
    raise ValueError("not a protocol buffer message")
