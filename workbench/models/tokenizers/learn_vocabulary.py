"""Trains BPE vocabularies on text as SentencePiece does, and extends a tokenizer by new pieces.

A piece is the text of a token, with `▁` for a space (or, in byte-level tokenizers, one letter per byte). An
extension puts the old merges first, so that whatever the old tokenizer merges stays merged. The new merges
follow, and the new tokens' ids follow all old ids.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from workbench.config.tokenizer import TokenizerConfig
from workbench.errors import CheckpointError, ConfigError, DataError
from workbench.models.tokenizers.load_tokenizer import read_tokenizer
from workbench.models.tokenizers.sentencepiece import SPACE, SPECIAL, build
from workbench.models.tokenizers.sentencepiece_file import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    Piece,
    SentencePieceModel,
)

SPECIAL_TOKENS = [SPECIAL[f"{kind}_token"] for kind in ("unk", "bos", "eos", "pad")]
"""Special tokens, whose ids are 0 to 3 as in Open-Llama's own tokenizers."""

MIN_FREQUENCY = 2
"""Two tokens are merged only if the text has the pair at least this often."""

MAX_PIECE_LENGTH = 16
"""Largest number of characters of a token, as in SentencePiece (max_sentencepiece_length)."""

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
"""Tokens of single bytes, for characters outside of the vocabulary."""

WORDS = (
    f"{SPACE}?\\p{{Han}}+|{SPACE}?[\\p{{L}}\\p{{M}}&&[^\\p{{Han}}]]+|{SPACE}?\\p{{N}}|"
    f"{SPACE}+(?={SPACE})|{SPACE}?[^\\p{{L}}\\p{{M}}\\p{{N}}{SPACE}\\s]+|{SPACE}|\\s"
)
"""Pre-tokenization into words, beyond which no piece extends: a run of Han or of other letters, one digit,
a run of signs."""


def learn(texts: Sequence[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """Train a new tokenizer in LLaMA's format; equal texts give equal tokenizers.

    Args:
        texts: Training texts.
        config: Section `tokenizer` of the configuration: vocabulary size and character coverage.

    Raises:
        ConfigError: The vocabulary size is too small for the characters of the texts.
        DataError: The texts are empty.
    """
    learned = _state(_train_on_characters(texts, config, config.vocab_size))["model"]["vocab"]
    if len(learned) > config.vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size: {config.vocab_size!r} is too small (at least {len(learned)} for "
            "the text's characters, bytes and special tokens, or lower tokenizer.character_coverage)"
        )
    kinds = dict.fromkeys(BYTES, BYTE) | dict.fromkeys(SPECIAL_TOKENS, CONTROL) | {SPECIAL_TOKENS[0]: UNKNOWN}
    pieces = tuple(
        Piece(text, -float(index), kinds.get(text, NORMAL))
        for text, index in sorted(learned.items(), key=lambda item: item[1])
    )
    model = SentencePieceModel(pieces=pieces, charsmap=b"", rule="identity", dummy_prefix=True)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=build(model), add_bos_token=True, add_eos_token=False, **SPECIAL
    )


def extend(
    old: PreTrainedTokenizerFast,
    texts: Sequence[str],
    pieces: PreTrainedTokenizerFast | None,
    config: TokenizerConfig,
    folder: Path,
) -> PreTrainedTokenizerFast:
    """Add new tokens to a tokenizer, save the extended one to `folder`, and return it, read back from there.

    The new ids follow the old ones. At most `config.num_new_tokens` are added; pieces of ASCII characters
    alone only with `config.add_ascii`.

    Args:
        old: A BPE tokenizer, which isn't changed.
        texts: Training texts of the new pieces, unless `pieces` is given.
        pieces: A tokenizer of the same type, whose pieces are added instead of trained ones; None: train.
        config: Section `tokenizer` of the configuration.
        folder: Folder of the extended tokenizer, created if need be.

    Raises:
        CheckpointError: A tokenizer isn't BPE, their types differ, or the class of `old` drops new pieces.
        ConfigError: There are no new pieces.
        DataError: The texts are empty.
    """
    state = _state(old.backend_tokenizer)
    size = config.num_new_tokens
    if pieces is not None:
        source = _state(pieces.backend_tokenizer)
    elif state["model"]["byte_fallback"]:
        source = _state(_train_on_characters(texts, config, size + len(old)))
    else:
        source = _state(_train_on_bytes(old.backend_tokenizer, texts, size + len(old)))
    if source["model"]["byte_fallback"] != state["model"]["byte_fallback"]:
        raise CheckpointError(
            "tokenizer.pieces: one of this tokenizer and the model's is byte-level, the other has characters "
            "(name a tokenizer of the model's type)"
        )
    refused = frozenset() if config.add_ascii else _ascii(state["model"]["byte_fallback"])
    if not _add(state["model"], source["model"], old.get_vocab(), size, refused):
        raise ConfigError("tokenizer: there are no new pieces, the old vocabulary has all of them")
    old.save_pretrained(folder)
    text = json.dumps(state, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    extended = read_tokenizer(folder)
    _check_same(Tokenizer.from_str(text), extended, texts)
    return extended


def subpieces(old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> dict[int, list[int]]:
    """Return new token id -> ids of the old tokens (one or more) into which `old` splits the token's piece.

    New tokens are those of `new` whose ids are larger than all in `old`.
    """
    first = max(old.get_vocab().values()) + 1
    model, unknown = old.backend_tokenizer.model, old.unk_token_id
    split = {}
    for piece, index in new.get_vocab().items():
        if index < first:
            continue
        ids = [token.id for token in model.tokenize(piece)]
        # The unknown token says nothing about the embedding of the new one.
        split[index] = [token_id for token_id in ids if token_id != unknown] or ids or [unknown or 0]
    return dict(sorted(split.items()))


def characters_per_token(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """Return the number of characters of all texts, divided by that of their tokens without special ones."""
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return sum(map(len, texts)) / max(1, sum(len(encoding.ids) for encoding in encoded))


def _train_on_characters(texts: Sequence[str], config: TokenizerConfig, size: int) -> Tokenizer:
    """Train BPE on characters, with at most `size` tokens; ids are in the order of training."""
    characters = Counter(chain.from_iterable(texts))
    if not characters:
        raise DataError("data.path: no text to learn a vocabulary from")
    alphabet_size = _num_frequent(characters, config.character_coverage)
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=SPECIAL_TOKENS[0]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[*SPECIAL_TOKENS, *BYTES],
        initial_alphabet=[SPACE],
        limit_alphabet=alphabet_size + 1,
        max_token_length=MAX_PIECE_LENGTH,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(texts), trainer)
    return tokenizer


def _train_on_bytes(old: Tokenizer, texts: Sequence[str], size: int) -> Tokenizer:
    """Train BPE on bytes, with the normalizer and pre-tokenizer of the old tokenizer."""
    if not any(texts):
        raise DataError("data.path: no text to learn a vocabulary from")
    tokenizer = Tokenizer(models.BPE())
    if old.normalizer is not None:
        tokenizer.normalizer = old.normalizer
    tokenizer.pre_tokenizer = old.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=4 * MAX_PIECE_LENGTH,  # a Chinese character is three bytes
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _lines(texts: Sequence[str]) -> Iterator[str]:
    """Yield the texts line by line, without empty lines: a book as a single word would give no merges."""
    for text in texts:
        yield from (line for line in text.splitlines() if line)


def _num_frequent(characters: Counter[str], coverage: float) -> int:
    """Return the number of most frequent characters that cover this share of the text."""
    target, covered = coverage * characters.total(), 0
    for number, (_, count) in enumerate(characters.most_common(), 1):
        covered += count
        if covered >= target:
            return number
    return len(characters)


def _state(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of a BPE tokenizer's tokenizer.json.

    Raises:
        CheckpointError: The tokenizer is not BPE.
    """
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    if state["model"]["type"] != "BPE":
        raise CheckpointError(
            f"model.tokenizer: {state['model']['type']} tokenizers can't be extended (only BPE)"
        )
    return state


def _ascii(by_character: bool) -> frozenset[str]:
    """Return the letters by which pieces write ASCII text: characters and `▁`, or byte-level letters."""
    characters = [chr(code) for code in range(128)]
    if by_character:
        return frozenset([*characters, SPACE])
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return frozenset(byte_level.pre_tokenize_str(character)[0][0] for character in characters)


def _add(
    model: dict[str, Any],
    source: dict[str, Any],
    known: dict[str, int],
    size: int,
    refused: frozenset[str],
) -> int:
    """Add up to `size` pieces of `source` to `model`, both as in tokenizer.json; return their number.

    Their ids follow those of the `known` tokens. Pieces that consist of `refused` letters only are skipped.
    """
    vocabulary: dict[str, int] = model["vocab"]
    vocabulary |= known  # added tokens keep their ids only if the BPE model has them, too
    first = max(known.values()) + 1
    new: set[str] = set()

    def add(piece: str) -> None:
        if piece not in vocabulary and len(new) < size and not refused.issuperset(piece):
            vocabulary[piece] = first + len(new)
            new.add(piece)

    merged = {left + right for left, right in source["merges"]}
    for piece in sorted(source["vocab"], key=source["vocab"].__getitem__):
        if piece not in merged and len(piece) == 1:
            add(piece)
    for left, right in source["merges"]:
        if left in vocabulary and right in vocabulary:
            add(left + right)
            if left + right in new:
                model["merges"].append([left, right])
    return len(new)


def _check_same(written: Tokenizer, reloaded: PreTrainedTokenizerFast, texts: Sequence[str]) -> None:
    """Raise CheckpointError if the reloaded tokenizer encodes a text otherwise than the written one."""
    for text in texts[:100]:
        ids = written.encode(text, add_special_tokens=False).ids
        if ids != reloaded.backend_tokenizer.encode(text, add_special_tokens=False).ids:
            raise CheckpointError(
                f"tokenizer: {type(reloaded).__name__} builds its own merges and drops the new pieces "
                "(name the tokenizer.json or .model file as model.tokenizer)"
            )
