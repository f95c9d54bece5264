"""SentencePiece byte-pair models, the tokenizers of LLaMA and Open-Llama, as fast ones with the same ids."""

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
"""Characters of a piece; SentencePiece makes none of more than 16 by itself."""
SPACE = "▁"
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
"""The usual special tokens; a folder's tokenizer_config.json may name others."""


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    """What a `.model` file says, as far as encoding and decoding depend on it."""

    pieces: tuple[Piece, ...]
    charsmap: bytes
    """Compiled replacements of characters; empty: none."""
    rule: str
    """Name of the replacements, such as nfkc or identity."""
    dummy_prefix: bool
    """A space is put before every text."""


def read_model(file: Path, most: int = MAX_TOKENS) -> SentencePieceModel:
    """The model in a file, which has this many pieces at most.

    Raises:
        CheckpointError: it is damaged, or of a kind that LLaMA's tokenizers aren't.
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
                if len(pieces) > most:
                    raise CheckpointError(f"{file}: more than {most:,} pieces, the rows of the embedding")
            elif number == 2:
                trainer = dict(_fields(value))
            elif number == 3:
                normalizer = dict(_fields(value))
        charsmap, rule = normalizer.get(2, b""), normalizer.get(1, b"").decode("utf-8")
        if not isinstance(charsmap, bytes):
            raise TypeError("a number in place of the replacements")
    except (IndexError, KeyError, ValueError, AttributeError, TypeError, struct.error) as error:
        raise CheckpointError(f"{file}: truncated, damaged or no SentencePiece model") from error
    if not pieces:
        raise CheckpointError(f"{file}: truncated, damaged or no SentencePiece model")
    _check_pieces(pieces, file)
    longest = max((len(piece.text) for piece in pieces if piece.kind in (NORMAL, UNUSED)), default=0)
    if longest > MAX_PIECE:
        raise CheckpointError(f"{file}: a piece of {longest:,} characters (at most {MAX_PIECE})")
    if (growth := longest_replacement(charsmap)) > MAX_GROWTH:
        raise CheckpointError(f"{file}: replaces a text by {growth:,} bytes (at most {MAX_GROWTH:,})")
    if (kind := trainer.get(3, 1)) != BPE:
        raise CheckpointError(f"{file}: a SentencePiece model of kind {kind} (only byte pairs, 2)")
    if normalizer.get(4, 1) or not normalizer.get(5, 1) or trainer.get(24, 0):
        raise CheckpointError(f"{file}: treats spaces as no LLaMA tokenizer does (removed, or behind a word)")
    return SentencePieceModel(
        pieces=tuple(pieces),
        charsmap=charsmap,
        rule=rule,
        dummy_prefix=bool(normalizer.get(3, 1)),
    )


def _check_pieces(pieces: list[Piece], file: Path) -> None:
    """Refuse pieces that SentencePiece refuses.

    Raises:
        CheckpointError: a piece that is there twice, none or two for what is unknown, or a score of no order.
    """
    texts = Counter(piece.text for piece in pieces)
    text, count = texts.most_common(1)[0]
    if count > 1:
        raise CheckpointError(f"{file}: holds the piece {text!r:.60} {count} times")
    if (unknown := sum(piece.kind == UNKNOWN for piece in pieces)) != 1:
        raise CheckpointError(f"{file}: holds {unknown} pieces for unknown text (one)")
    if not all(math.isfinite(piece.score) for piece in pieces):
        raise CheckpointError(f"{file}: holds a piece whose score is NaN or infinite")


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value, int or bytes, of each field of a protocol buffer message, in the file's order.

    Source: protobuf.dev/programming-guides/encoding.

    Raises:
        ValueError: no such message.
        IndexError: it breaks off.
    """
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, place = _varint(data, place)
        if size is None or place + size > len(data):
            raise ValueError("no protocol buffer")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The integer at `place` and the place behind it."""
    value = shift = 0
    while shift < MAX_VARINT_BITS:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("no protocol buffer")


def merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """The pairs that are joined, first to last.

    SentencePiece joins, again and again, the neighbours that make the piece of the highest score, whichever
    they are; here every pair that makes a piece has a rank of its own, the pieces' scores before all.
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
    """The model as a tokenizer of the tokenizers library, without special tokens around a text."""
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
        # The tokenizers library applies the compiled map to whole graphemes and drops what a partial match
        # leaves over: the accent of a decomposed letter, the voicing of halfwidth kana. So compose first.
        steps.insert(0, normalizers.NFKC())
    tokenizer.normalizer = normalizers.Sequence(steps)
    back = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.dummy_prefix:
        back.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(back)
    whole = [piece for piece in model.pieces if piece.kind in (UNKNOWN, CONTROL, USER_DEFINED)]
    tokenizer.add_tokens(  # all at once, as each call goes through all that are there
        [AddedToken(piece.text, normalized=False, special=piece.kind != USER_DEFINED) for piece in whole]
    )
    return tokenizer


def read_tokenizer(file: Path, rows: int | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of a `.model` file, as the tokenizer_config.json beside it, if any, wants it.

    Without one it is LLaMA's: `<s>` before every text and nothing behind.

    Args:
        file: The model.
        rows: Of the embedding; None: unknown.

    Raises:
        CheckpointError: the model is damaged or of another kind, or a file beside it is.
    """
    backend = build(read_model(file, rows or MAX_TOKENS))
    settings = _settings(file.parent / "tokenizer_config.json") | {
        name: value
        for name, value in _settings(file.parent / "special_tokens_map.json").items()
        if name in SPECIAL
    }
    _add_tokens(backend, settings, file)
    known = backend.get_vocab()
    special = {name: _content(settings.get(name, usual)) for name, usual in SPECIAL.items()}
    wanted = {name: token for name, token in special.items() if token in known}
    kept = ("model_max_length", "padding_side", "chat_template", "clean_up_tokenization_spaces")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        add_bos_token=settings.get("add_bos_token", True),
        add_eos_token=settings.get("add_eos_token", False),
        **wanted,
        **{name: settings[name] for name in kept if settings.get(name) is not None},
    )


def _settings(file: Path) -> dict[str, Any]:
    """A JSON object beside the model; empty where there is none.

    Raises:
        CheckpointError: something else is in the file.
    """
    return read_json_object(file) if file.is_file() else {}


def _content(token: Any) -> Any:
    """The text of a token that may be described by an object."""
    return token.get("content") if isinstance(token, dict) else token


def _add_tokens(backend: Tokenizer, settings: dict[str, Any], file: Path) -> None:
    """Add the tokens that the files beside the model list behind its pieces.

    Raises:
        CheckpointError: a token whose id is not the next free one.
    """
    listed = {int(index): token for index, token in settings.get("added_tokens_decoder", {}).items()}
    listed |= {index: token for token, index in _settings(file.parent / "added_tokens.json").items()}
    for index, described in sorted(listed.items()):
        text = _content(described)
        if backend.token_to_id(text) == index:
            continue
        special = described.get("special", False) if isinstance(described, dict) else True
        backend.add_tokens([AddedToken(text, normalized=False, special=special)])
        if (found := backend.token_to_id(text)) != index:
            raise CheckpointError(f"{file}: the token {text!r} would get the id {found}, not {index}")
