"""Checks the sizes in a tokenizer's files before the tokenizers library reads the files.

The library has no limits: when the memory is full, it aborts the process.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from workbench.errors import CheckpointError
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.patterns import matching

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Files of a tokenizer folder that are checked."""
LISTS = ("added_tokens", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")
"""Keys whose values are lists of tokens."""
MAX_TOKENS = 5_000_000
"""Largest number of tokens if the number of embedding rows is unknown."""
MAX_GROWTH = 1_000
"""Largest number of characters that a normalizer or decoder may put in place of one; known tokenizers need
about 20."""
MAX_ADDED = 1_000
"""Largest number of tokens that a post-processor may add to a text."""


def check_announced(path: Path, rows: int | None) -> None:
    """Refuse a tokenizer with more tokens than embedding rows, or one whose output could fill the memory.

    Args:
        path: A tokenizer folder or file; only .json files are checked.
        rows: Number of rows of the embedding; None: unknown, so that the limit is MAX_TOKENS.

    Raises:
        CheckpointError: There are too many tokens, or a normalizer, decoder or post-processor would make a
            text far longer; the message names the file and the key.
    """
    files = [path] if path.is_file() else [path / name for name in FILES]
    limit = MAX_TOKENS if rows is None else rows
    reason = f"at most {limit:,} are read" if rows is None else f"the model's embedding has {limit:,} rows"
    for file in files:
        if file.suffix != ".json" or not file.is_file():
            continue
        description = read_json_object(file)
        lists = {name: description.get(name) for name in LISTS}
        lists |= {"model.vocab": _inside(description, "model", "vocab")}
        if file.name == FILES[-1]:
            lists[""] = description
        for name, tokens in lists.items():
            if isinstance(tokens, list | dict) and len(tokens) > limit:
                where = f"{file}: {name}" if name else f"{file}"
                raise CheckpointError(f"{where}: {len(tokens):,} tokens, but {reason}")
        _check_growth(description, file)
        _check_added_tokens(description, file)


def check_ids(tokenizer: PreTrainedTokenizerFast, rows: int | None, name: str) -> None:
    """Refuse a tokenizer if two tokens share an id, or if it adds a token without an embedding row to texts.

    Args:
        tokenizer: The tokenizer.
        rows: Number of rows of the embedding; None: unknown, and not checked.
        name: The tokenizer's path, for messages.

    Raises:
        CheckpointError: The tokenizer is refused; the message names the tokens.
    """
    tokens: dict[int, str] = {}
    for token, index in tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False).items():
        if index in tokens:
            first, second = f"{tokens[index]!r:.60}", f"{token!r:.60}"
            raise CheckpointError(f"{name}: the tokens {first} and {second} have the same id, {index}")
        tokens[index] = token
    largest = max(tokenizer("a")["input_ids"], default=0)
    if rows is not None and largest >= rows:
        raise CheckpointError(
            f"{name}: the tokenizer's post_processor adds token {largest} to each text, but the model's "
            f"embedding has {rows} rows (name another one with model.tokenizer)"
        )


def check_template(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Refuse a chat template that is neither a text nor a mapping of names to texts; no template passes.

    Raises:
        CheckpointError: The template is refused; the message has `name`, the tokenizer's path, and the
            template.
    """
    template = tokenizer.chat_template
    texts = list(template.values()) if isinstance(template, dict) else [template or ""]
    if not all(isinstance(text, str) for text in texts):
        raise CheckpointError(f"{name}: the tokenizer's chat_template is not a text, {template!r:.60}")


def _inside(description: Any, *keys: str) -> Any:
    """Return the value of nested keys; None if a key is missing."""
    for key in keys:
        description = description.get(key) if isinstance(description, Mapping) else None
    return description


def _check_added_tokens(description: Mapping[str, Any], file: Path) -> None:
    """Refuse a post-processor that adds too many tokens to a text.

    Raises:
        CheckpointError: There are too many; the message has their number.
    """
    parts = _members_of(description.get("post_processor"), "processors")
    special = [_inside(member, "special_tokens") for member in parts]
    listed = [token for tokens in special if isinstance(tokens, Mapping) for token in tokens.values()]
    ids = [_inside(token, "ids") for token in listed]
    added = sum(len(token_ids) for token_ids in ids if isinstance(token_ids, list))
    if added > MAX_ADDED:
        raise CheckpointError(
            f"{file}: post_processor: adds {added:,} tokens to a text (at most {MAX_ADDED:,})"
        )


def _check_growth(description: Mapping[str, Any], file: Path) -> None:
    """Refuse a normalizer or decoder that replaces a character by a long text.

    Raises:
        CheckpointError: A replacement is too long; the message names the key.
    """
    for key, members in (("normalizer", "normalizers"), ("decoder", "decoders")):
        growth = 1.0
        for member in _members_of(description.get(key), members):
            growth *= _growth(member)
        if growth > MAX_GROWTH:
            raise CheckpointError(
                f"{file}: {key}: replaces a character by {growth:,.0f} (at most {MAX_GROWTH:,})"
            )


def _members_of(component: Any, members: str) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a component of tokenizer.json, including those of nested sequences."""
    pending = [component]
    while pending:
        member = pending.pop()
        if not isinstance(member, Mapping):
            continue
        yield member
        if isinstance(inner := member.get(members), list):
            pending += inner


def _growth(member: Mapping[str, Any]) -> float:
    """Return the largest number of characters that a normalizer or decoder puts in place of one."""
    if isinstance(prefix := member.get("prepend"), str):
        return 1.0 + len(prefix)
    if isinstance(encoded := member.get("precompiled_charsmap"), str):
        return float(longest_replacement(_decoded(encoded)))
    content = member.get("content")
    if member.get("type") != "Replace" or not isinstance(content, str):
        return 1.0
    replaced = _inside(member, "pattern", "String")
    if isinstance(replaced, str) and replaced:
        return max(1.0, len(content) / len(replaced))
    return len(content) + float(_matches_nothing(_inside(member, "pattern", "Regex"))) or 1.0


def _matches_nothing(pattern: Any) -> bool:
    """Return whether a regular expression may match the empty text; True too if that can't be decided."""
    if not isinstance(pattern, str) or "(?" in pattern:
        return True
    try:
        return matching.last_match(pattern, "") is not None
    except matching.PatternError:  # syntax of the tokenizers library only
        return True


def _decoded(encoded: str) -> bytes:
    """Decode base64; empty if the text is invalid, which the tokenizers library reports."""
    try:
        return base64.b64decode(encoded)
    except (binascii.Error, ValueError):
        return b""


def longest_replacement(charsmap: bytes) -> int:
    """Return the length in bytes of the longest replacement in SentencePiece's character map, at least 1.

    Source: github.com/google/sentencepiece, normalizer.cc. The map is the size of a trie, the trie, and texts
    that end in a zero byte.
    """
    start = 4 + int.from_bytes(charsmap[:4], "little")
    return max(1, max(map(len, charsmap[start:].split(b"\0"))))
