"""What the files of a tokenizer announce, held against the model, before the tokenizers library reads them.

That library has no bounds of its own: it ends the process where the memory ends.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from workbench import patterns
from workbench.errors import CheckpointError
from workbench.models.checkpoints.state_dict import read_json_object

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
LISTS = ("added_tokens", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")
"""Keys of lists of tokens."""
MAX_TOKENS = 5_000_000
"""Where the model doesn't say how many rows its embedding has."""
MAX_GROWTH = 1_000
"""Characters that a normalizer or a decoder may make of one; what is in use makes about 20."""
MAX_ADDED = 1_000
"""Tokens that a post-processor may put around a text."""


def check_announced(place: Path, rows: int | None) -> None:
    """Refuse a tokenizer that would fill the memory, or that has more tokens than the model.

    Args:
        place: a folder or a file.
        rows: of the model's embedding; None: unknown.

    Raises:
        CheckpointError: with the file and the key.
    """
    files = [place] if place.is_file() else [place / name for name in FILES]
    most = MAX_TOKENS if rows is None else rows
    for file in files:
        if file.suffix != ".json" or not file.is_file():
            continue
        described = read_json_object(file)
        lists = {name: described.get(name) for name in LISTS}
        lists |= {"model.vocab": _inside(described, "model", "vocab")}
        if file.name == FILES[-1]:
            lists[""] = described
        for name, tokens in lists.items():
            if isinstance(tokens, list | dict) and len(tokens) > most:
                where = f"{file}: {name}" if name else f"{file}"
                raise CheckpointError(
                    f"{where}: {len(tokens):,} tokens, the model's embedding has {most:,} rows"
                )
        _check_growth(described, file)
        _check_around(described, file)


def check_ids(tokenizer: PreTrainedTokenizerFast, rows: int | None, name: str) -> None:
    """Refuse tokens that share a number, and numbers behind the embedding that every text gets.

    Raises:
        CheckpointError: with the tokens.
    """
    tokens: dict[int, str] = {}
    for token, index in tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False).items():
        if index in tokens:
            first, second = f"{tokens[index]!r:.60}", f"{token!r:.60}"
            raise CheckpointError(f"{name}: the tokens {first} and {second} have one number, {index}")
        tokens[index] = token
    largest = max(tokenizer("a")["input_ids"], default=0)
    if rows is not None and largest >= rows:
        raise CheckpointError(
            f"{name}: the tokenizer's post_processor puts token {largest} to each text, and the model's "
            f"embedding has {rows} rows (model.tokenizer names another)"
        )


def check_template(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Refuse a chat template that is not a text, nor texts by their names.

    Raises:
        CheckpointError: with what it is.
    """
    template = tokenizer.chat_template
    texts = list(template.values()) if isinstance(template, dict) else [template or ""]
    if not all(isinstance(text, str) for text in texts):
        raise CheckpointError(f"{name}: the tokenizer's chat_template is {template!r:.60} (a text)")


def _inside(described: Any, *keys: str) -> Any:
    """What nested objects hold under some keys; None where they don't."""
    for key in keys:
        described = described.get(key) if isinstance(described, Mapping) else None
    return described


def _check_around(described: Mapping[str, Any], file: Path) -> None:
    """Refuse a post-processor that puts any number of tokens around a text.

    Raises:
        CheckpointError: with the number.
    """
    parts = _parts(described.get("post_processor"), "processors")
    special = [_inside(part, "special_tokens") for part in parts]
    listed = [token for tokens in special if isinstance(tokens, Mapping) for token in tokens.values()]
    ids = [_inside(token, "ids") for token in listed]
    added = sum(len(each) for each in ids if isinstance(each, list))
    if added > MAX_ADDED:
        raise CheckpointError(
            f"{file}: post_processor: {added:,} tokens around a text (at most {MAX_ADDED:,})"
        )


def _check_growth(described: Mapping[str, Any], file: Path) -> None:
    """Refuse a normalizer or a decoder that makes a long text of a character.

    Raises:
        CheckpointError: with the key.
    """
    for key, members in (("normalizer", "normalizers"), ("decoder", "decoders")):
        growth = 1.0
        for part in _parts(described.get(key), members):
            growth *= _growth(part)
        if growth > MAX_GROWTH:
            raise CheckpointError(
                f"{file}: {key}: makes {growth:,.0f} characters of one (at most {MAX_GROWTH:,})"
            )


def _parts(component: Any, members: str) -> Iterator[Mapping[str, Any]]:
    """The members of a component of tokenizer.json, those of nested sequences too."""
    waiting = [component]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        yield part
        if isinstance(inner := part.get(members), list):
            waiting += inner


def _growth(part: Mapping[str, Any]) -> float:
    """How many characters a member makes of one, at most."""
    if isinstance(before := part.get("prepend"), str):
        return 1.0 + len(before)
    if isinstance(packed := part.get("precompiled_charsmap"), str):
        return float(longest_replacement(_unpacked(packed)))
    content = part.get("content")
    if part.get("type") != "Replace" or not isinstance(content, str):
        return 1.0
    found = _inside(part, "pattern", "String")
    if isinstance(found, str) and found:
        return max(1.0, len(content) / len(found))
    return len(content) + float(_matches_nothing(_inside(part, "pattern", "Regex"))) or 1.0


def _matches_nothing(pattern: Any) -> bool:
    """Whether a regular expression can match between two characters."""
    if not isinstance(pattern, str) or "(?" in pattern:
        return True
    try:
        return patterns.last_match(pattern, "") is not None
    except patterns.PatternError:  # of the library's own kind
        return True


def _unpacked(packed: str) -> bytes:
    """The bytes of a base64 text; none where it isn't one, which the library says."""
    try:
        return base64.b64decode(packed)
    except (binascii.Error, ValueError):
        return b""


def longest_replacement(charsmap: bytes) -> int:
    """Bytes of the longest text that a compiled map of SentencePiece puts in place of others, at least 1.

    Source: github.com/google/sentencepiece, normalizer.cc: a size, a trie of this size, texts that end in 0.
    """
    begin = 4 + int.from_bytes(charsmap[:4], "little")
    return max(1, max(map(len, charsmap[begin:].split(b"\0"))))
