"""Converts SentencePiece BPE models, such as LLaMA's, to fast tokenizers with the same ids."""

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from workbench.errors import CheckpointError
from workbench.files import LONGEST_JSON
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.tokenizers.tokenizer_bounds import MAX_GROWTH, MAX_TOKENS, longest_replacement

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BPE = 2
MAX_VARINT_BITS = 70
MAX_PIECE = 512
"""Limit on the characters of a piece; SentencePiece's default is 16."""
SPACE = "▁"
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
"""Default special tokens; a folder's tokenizer_config.json may name others."""


@dataclass(frozen=True)
class Piece:
    """Entry of the vocabulary; its id is its index."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    """Content of a `.model` file that encoding and decoding depend on."""

    pieces: tuple[Piece, ...]
    charsmap: bytes
    """Compiled character replacements; empty: no replacements."""
    rule: str
    """Name of the normalization rule, such as nfkc or identity."""
    dummy_prefix: bool
    """Whether a space is added before every text."""


def read_model(file: Path, limit: int = MAX_TOKENS) -> SentencePieceModel:
    """Read a `.model` file, which has up to `limit` pieces.

    Raises:
        CheckpointError: The file is damaged, or the model is of another type than LLaMA's tokenizers.
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


def _check_pieces(pieces: list[Piece], file: Path) -> None:
    """Refuse pieces that SentencePiece refuses.

    Raises:
        CheckpointError: A piece occurs twice, there isn't exactly one unknown piece, or a score isn't finite.
    """
    texts = Counter(piece.text for piece in pieces)
    text, count = texts.most_common(1)[0]
    if count > 1:
        raise CheckpointError(f"{file}: the piece {text!r:.60} occurs {count} times")
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
    """Decode the varint at `position`; return it and the position after it."""
    value = shift = 0
    while shift < MAX_VARINT_BITS:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
    raise ValueError("not a protocol buffer message")


def merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """Return the merges, ranked.

    SentencePiece repeatedly merges the neighbours that form the piece with the highest score, by any pair.
    BPE ranks pairs, so every pair that forms a piece becomes a merge, ordered by the piece's score.
    """
    ids = {piece.text: index for index, piece in enumerate(model.pieces)}
    ranked: list[tuple[float, int, tuple[str, str]]] = []
    for piece in model.pieces:
        if piece.kind not in (NORMAL, UNUSED):
            continue
        for split in range(1, len(piece.text)):
            pair = piece.text[:split], piece.text[split:]
            if pair[0] in ids and pair[1] in ids:
                ranked.append((-piece.score, len(ranked), pair))
    return [pair for _, _, pair in sorted(ranked)]


def build(model: SentencePieceModel) -> Tokenizer:
    """Convert the model to the tokenizers library, without special tokens around a text."""
    fallback = any(piece.kind == BYTE for piece in model.pieces)
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    unknown = next((piece.text for piece in model.pieces if piece.kind == UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges(model), unk_token=unknown, fuse_unk=True, byte_fallback=fallback)
    )
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", SPACE)]
    if model.dummy_prefix:
        steps.insert(0, normalizers.Prepend(SPACE))
    if model.charsmap:
        steps.insert(0, normalizers.Precompiled(model.charsmap))
    if model.rule in ("nfkc", "nmt_nfkc"):
        # The tokenizers library applies the compiled map to graphemes and drops what a partial match doesn't
        # cover: the accent of a decomposed letter, the voicing of halfwidth kana. So compose first.
        steps.insert(0, normalizers.NFKC())
    tokenizer.normalizer = normalizers.Sequence(steps)
    decoding = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.dummy_prefix:
        decoding.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(decoding)
    unsplit = [piece for piece in model.pieces if piece.kind in (UNKNOWN, CONTROL, USER_DEFINED)]
    tokenizer.add_tokens(  # in one call, since each call takes time for all tokens
        [AddedToken(piece.text, normalized=False, special=piece.kind != USER_DEFINED) for piece in unsplit]
    )
    return tokenizer


def read_tokenizer(file: Path, rows: int | None = None) -> PreTrainedTokenizerFast:
    """Read the tokenizer of a `.model` file, with the settings of a tokenizer_config.json in its folder.

    The default settings are LLaMA's: `<s>` before every text, and no token after it.

    Args:
        file: The `.model` file.
        rows: Rows of the embedding; None: unknown.

    Raises:
        CheckpointError: The model is damaged or of another type, or a settings file is damaged.
    """
    backend = build(read_model(file, rows or MAX_TOKENS))
    settings = _settings(file.parent / "tokenizer_config.json") | {
        name: value
        for name, value in _settings(file.parent / "special_tokens_map.json").items()
        if name in SPECIAL
    }
    _add_tokens(backend, settings, file)
    vocabulary = backend.get_vocab()
    special = {name: _content(settings.get(name, default)) for name, default in SPECIAL.items()}
    present = {name: token for name, token in special.items() if token in vocabulary}
    copied = ("model_max_length", "padding_side", "chat_template", "clean_up_tokenization_spaces")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        add_bos_token=settings.get("add_bos_token", True),
        add_eos_token=settings.get("add_eos_token", False),
        **present,
        **{name: settings[name] for name in copied if settings.get(name) is not None},
    )


def _settings(file: Path) -> dict[str, Any]:
    """Read a JSON file in the model's folder; empty if the file is missing.

    Raises:
        CheckpointError: The file is not a JSON object.
    """
    return read_json_object(file) if file.is_file() else {}


def _content(token: Any) -> Any:
    """Return the text of a token, which is a string or an object."""
    return token.get("content") if isinstance(token, dict) else token


def _add_tokens(backend: Tokenizer, settings: dict[str, Any], file: Path) -> None:
    """Add the tokens that the settings files list, with ids after the model's pieces.

    Raises:
        CheckpointError: A token's id is not the next free one.
    """
    listed = {int(index): token for index, token in settings.get("added_tokens_decoder", {}).items()}
    listed |= {index: token for token, index in _settings(file.parent / "added_tokens.json").items()}
    for index, described in sorted(listed.items()):
        text = _content(described)
        if backend.token_to_id(text) == index:
            continue
        special = described.get("special", False) if isinstance(described, dict) else True
        backend.add_tokens([AddedToken(text, normalized=False, special=special)])
        if (next_id := backend.token_to_id(text)) != index:
            raise CheckpointError(
                f"{file}: the token {text!r} gets the id {next_id}, not {index} (ids must be consecutive)"
            )
