"""Vocabularies: learned from text as SentencePiece does, and old ones extended by new pieces.

A piece is a token of the model, with `▁` for a space (or, of tokenizers that work on bytes, their letters for
bytes). An extension leaves the old merges first in line, so what an old tokenizer joins stays joined; the new
pieces' merges come behind, and their tokens behind all old ones.
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
from workbench.models.tokenizers.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    SPACE,
    SPECIAL,
    UNKNOWN,
    Piece,
    SentencePieceModel,
    build,
)

SPECIAL_TOKENS = [SPECIAL[f"{kind}_token"] for kind in ("unk", "bos", "eos", "pad")]
"""With the ids 0 to 3, as in Open-Llama's own tokenizers."""

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

WORDS = (
    f"{SPACE}?\\p{{Han}}+|{SPACE}?[\\p{{L}}\\p{{M}}&&[^\\p{{Han}}]]+|{SPACE}?\\p{{N}}|"
    f"{SPACE}+(?={SPACE})|{SPACE}?[^\\p{{L}}\\p{{M}}\\p{{N}}{SPACE}\\s]+|{SPACE}|\\s"
)
"""No piece reaches over the borders of these: a run of Han or other letters, one digit, a run of signs."""


def learn(texts: Sequence[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """A new tokenizer in the form of LLaMA's, the same for the same texts.

    Raises:
        ConfigError: the size has no room for the characters of the text.
        DataError: the texts are empty.
    """
    learned = _state(_learned(texts, config, config.vocab_size))["model"]["vocab"]
    if len(learned) > config.vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size: {config.vocab_size!r} has no room for the text's characters, which are "
            f"{len(learned)} with bytes and special tokens (or lower tokenizer.character_coverage)"
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
    """Write `old` with new tokens, whose ids follow the old ones, to `folder`.

    Args:
        old: A tokenizer of byte pairs.
        texts: What the new pieces are learned from, unless `pieces` brings them.
        pieces: A tokenizer of the same kind.
        config: The section.
        folder: Of the extended tokenizer.

    Raises:
        CheckpointError: the tokenizers are of kinds that can't be joined.
        ConfigError: there is nothing new to add.
        DataError: the texts are empty.
    """
    state = _state(old.backend_tokenizer)
    size = config.num_new_tokens
    if pieces is not None:
        source = _state(pieces.backend_tokenizer)
    elif state["model"]["byte_fallback"]:
        source = _state(_learned(texts, config, size + len(old)))
    else:
        source = _state(_learned_in_bytes(old.backend_tokenizer, texts, config, size + len(old)))
    if source["model"]["byte_fallback"] != state["model"]["byte_fallback"]:
        raise CheckpointError(
            "tokenizer.pieces: its pieces are of bytes and the model's of characters, or the other way round"
        )
    refused = frozenset() if config.add_ascii else _ascii(state["model"]["byte_fallback"])
    if not _add(state["model"], source["model"], old.get_vocab(), size, refused):
        raise ConfigError("tokenizer: nothing new to add, the old vocabulary holds all pieces")
    old.save_pretrained(folder)
    text = json.dumps(state, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    extended = read_tokenizer(folder)
    _check_same(Tokenizer.from_str(text), extended, texts)
    return extended


def subpieces(old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> dict[int, list[int]]:
    """Of each token that only `new` has, the tokens by which `old` spells it: id -> ids, at least one."""
    first = max(old.get_vocab().values()) + 1
    model, unknown = old.backend_tokenizer.model, old.unk_token_id
    found = {}
    for piece, index in new.get_vocab().items():
        if index < first:
            continue
        ids = [token.id for token in model.tokenize(piece)]
        # A character that even bytes don't spell says nothing about where it should lie.
        found[index] = [each for each in ids if each != unknown] or ids or [unknown or 0]
    return dict(sorted(found.items()))


def characters_per_token(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """How much text a token holds on average, special tokens not counted."""
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return sum(map(len, texts)) / max(1, sum(len(each.ids) for each in encoded))


def _learned(texts: Sequence[str], config: TokenizerConfig, size: int) -> Tokenizer:
    """Byte pairs over characters, at most `size`; what comes first was learned first."""
    characters = Counter(chain.from_iterable(texts))
    if not characters:
        raise DataError("data.path: no text to learn a vocabulary from")
    kept = _frequent(characters, config.character_coverage)
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=SPECIAL_TOKENS[0]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=config.min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *BYTES],
        initial_alphabet=[SPACE],
        limit_alphabet=kept + 1,
        max_token_length=config.max_piece_length,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(texts), trainer)
    return tokenizer


def _learned_in_bytes(old: Tokenizer, texts: Sequence[str], config: TokenizerConfig, size: int) -> Tokenizer:
    """Byte pairs over bytes, split and normalised as `old` does."""
    if not any(texts):
        raise DataError("data.path: no text to learn a vocabulary from")
    tokenizer = Tokenizer(models.BPE())
    if old.normalizer is not None:
        tokenizer.normalizer = old.normalizer
    tokenizer.pre_tokenizer = old.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=config.min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=4 * config.max_piece_length,  # a Chinese character is three bytes
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _lines(texts: Sequence[str]) -> Iterator[str]:
    """The lines of the texts, none of them empty: a whole book as one word would learn nothing."""
    for text in texts:
        yield from (line for line in text.splitlines() if line)


def _frequent(characters: Counter[str], coverage: float) -> int:
    """How many of the most frequent characters make up this share of the text."""
    wanted, seen = coverage * characters.total(), 0
    for number, (_, count) in enumerate(characters.most_common(), 1):
        seen += count
        if seen >= wanted:
            return number
    return len(characters)


def _state(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer as its file would say it.

    Raises:
        CheckpointError: it isn't one of byte pairs.
    """
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    if state["model"]["type"] != "BPE":
        raise CheckpointError(
            f"model.tokenizer: {state['model']['type']} tokenizers can't be extended (only BPE)"
        )
    return state


def _ascii(by_character: bool) -> frozenset[str]:
    """The letters by which pieces write ASCII: themselves with `▁`, or those for the lower bytes."""
    characters = [chr(code) for code in range(128)]
    if by_character:
        return frozenset([*characters, SPACE])
    spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return frozenset(spelling.pre_tokenize_str(each)[0][0] for each in characters)


def _add(
    model: dict[str, Any],
    source: dict[str, Any],
    known: dict[str, int],
    size: int,
    refused: frozenset[str],
) -> int:
    """Add up to `size` pieces of `source` to `model`, behind the `known` tokens; how many it were.

    Pieces that consist of `refused` letters are left out.
    """
    vocabulary: dict[str, int] = model["vocab"]
    vocabulary |= known  # tokens added beside the model keep their ids only if it knows them
    first = max(known.values()) + 1
    new: set[str] = set()

    def take(piece: str) -> None:
        if piece not in vocabulary and len(new) < size and not refused.issuperset(piece):
            vocabulary[piece] = first + len(new)
            new.add(piece)

    made = {left + right for left, right in source["merges"]}
    for piece in sorted(source["vocab"], key=source["vocab"].__getitem__):
        if piece not in made and len(piece) == 1:
            take(piece)
    for left, right in source["merges"]:
        if left in vocabulary and right in vocabulary:
            take(left + right)
            if left + right in new:
                model["merges"].append([left, right])
    return len(new)


def _check_same(wanted: Tokenizer, found: PreTrainedTokenizerFast, texts: Sequence[str]) -> None:
    """Raise CheckpointError unless the tokenizer that was read back is the one that was written."""
    for text in texts[:100]:
        ids = wanted.encode(text, add_special_tokens=False).ids
        if ids != found.backend_tokenizer.encode(text, add_special_tokens=False).ids:
            raise CheckpointError(
                f"tokenizer: {type(found).__name__} builds its own rules and drops the new pieces "
                "(name the tokenizer.json or .model itself as model.tokenizer)"
            )
