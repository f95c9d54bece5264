"""Converts SentencePiece BPE models, such as LLaMA's tokenizer.model, to fast tokenizers with equal ids."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from workbench.errors import CheckpointError
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.tokenizers import chatglm_tokens
from workbench.models.tokenizers.copied_settings import copied_settings
from workbench.models.tokenizers.sentencepiece_file import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNMATCHED,
    UNUSED,
    USER_DEFINED,
    Piece,
    SentencePieceModel,
    check_distinct,
    read_model,
)
from workbench.models.tokenizers.tokenizer_bounds import MAX_TOKENS

SPACE = "▁"
"""Character for a space in pieces."""
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
"""Default special tokens; a folder's tokenizer_config.json may name others."""


def merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """Return the merges of a BPE tokenizer with the same results, as pairs of pieces in the order of merging.

    SentencePiece repeatedly merges the neighbours that form the piece with the highest score, whichever pair
    they are. BPE ranks pairs, so every pair that forms a piece becomes a merge, ordered by the piece's score.
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
    """Convert the model to a tokenizer of the tokenizers library, whose ids are the pieces' indices.

    It adds no special tokens to texts.
    """
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
        rows: Number of rows of the embedding, which limits the vocabulary; None: unknown.

    Raises:
        CheckpointError: The model is damaged or of another type, or a settings file is damaged.
    """
    settings = _settings(file.parent / "tokenizer_config.json") | {
        name: value
        for name, value in _settings(file.parent / "special_tokens_map.json").items()
        if name in SPECIAL
    }
    listed, model = _listed_tokens(settings, file), read_model(file, rows or MAX_TOKENS)
    is_chatglm = settings.get("tokenizer_class") == chatglm_tokens.CLASS
    if is_chatglm:
        model = chatglm_tokens.with_special_pieces(model)
        check_distinct(model.pieces, file)
    backend = build(_replaced(model, listed, file))
    _add_tokens(backend, listed, file)
    vocabulary = backend.get_vocab()
    special = {name: _content(settings.get(name, default)) for name, default in SPECIAL.items()}
    if is_chatglm:
        special["pad_token"] = special["unk_token"]
    present = {name: token for name, token in special.items() if token in vocabulary}
    around: dict[str, Any] = {
        "add_bos_token": settings.get("add_bos_token", True),
        "add_eos_token": settings.get("add_eos_token", False),
    }
    if is_chatglm:
        backend.post_processor, around = chatglm_tokens.prefix(backend), {}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        **around,
        **present,
        **copied_settings(settings, file.parent),
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


def _listed_tokens(settings: dict[str, Any], file: Path) -> dict[int, AddedToken]:
    """Return id -> token of all tokens that tokenizer_config.json and added_tokens.json list."""
    listed = {int(index): token for index, token in settings.get("added_tokens_decoder", {}).items()}
    listed |= {index: token for token, index in _settings(file.parent / "added_tokens.json").items()}
    return {
        index: AddedToken(
            _content(token),
            normalized=False,
            special=token.get("special", False) if isinstance(token, dict) else True,
        )
        for index, token in sorted(listed.items())
    }


def _replaced(model: SentencePieceModel, listed: dict[int, AddedToken], file: Path) -> SentencePieceModel:
    """Put each token that the JSON files list in place of the model's piece that has the token's id.

    InternLM2, for instance, lists tokens at the ids of unused pieces. Ids beyond the pieces are left to
    `_add_tokens`.

    Raises:
        CheckpointError: The model has the token under another id, or the piece is the unknown one or a byte.
    """
    pieces = list(model.pieces)
    ids = {piece.text: index for index, piece in enumerate(pieces)}
    for index, token in listed.items():
        piece = pieces[index] if 0 <= index < len(pieces) else None
        if piece is None or (piece.text == token.content and piece.kind != UNMATCHED):
            continue
        if ids.get(token.content, index) != index or piece.kind in (UNKNOWN, BYTE):
            raise CheckpointError(
                f"{file}: the token {token.content!r} can't have the id {index}, that of {piece.text!r}"
            )
        pieces[index] = Piece(token.content, 0.0, CONTROL if token.special else USER_DEFINED)
    return replace(model, pieces=tuple(pieces))


def _add_tokens(backend: Tokenizer, listed: dict[int, AddedToken], file: Path) -> None:
    """Add the tokens of tokenizer_config.json and added_tokens.json whose ids follow those of the pieces.

    Tokens that the tokenizer has already under the same id are skipped.

    Raises:
        CheckpointError: A token's id is not the next free one.
    """
    for index, token in listed.items():
        if backend.token_to_id(token.content) == index:
            continue
        backend.add_tokens([token])
        if (next_id := backend.token_to_id(token.content)) != index:
            raise CheckpointError(
                f"{file}: the token {token.content!r} gets the id {next_id}, not {index} "
                "(ids must be consecutive)"
            )
