"""Finds control tokens (special tokens such as `<s>`) in the text of rows, to remove or to count them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.data.conversations import Conversation, Turn

SENTINEL = "\ufdd3"
"""Placeholder for a turn's text in a skeleton. Unicode will never assign this character."""

WELL_KNOWN = (
    r"<\|(?:im_start|im_end|im_sep|endoftext|begin_of_text|end_of_text|eot_id|start_header_id|end_header_id"
    r"|system|user|assistant|end|return)\|>|</?s>|<(?:start|end)_of_turn>"
)
"""Matches control tokens of the most common model families."""

NUM_NAMED_ROWS = 3
"""Number of rows that a message names for each control token."""


@dataclass
class RowsWithToken:
    """Number of rows that contain a control token, with file and line of the first few."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    """File and line of the first rows, at most NUM_NAMED_ROWS."""

    def add(self, other: "RowsWithToken") -> None:
        """Add to this object the number of further rows, and their positions while there is room."""
        self.count += other.count
        self.first = [*self.first, *other.first][:NUM_NAMED_ROWS]

    def __str__(self) -> str:
        """Return file and line of the first rows for a message, with an ellipsis if there are more."""
        return ", ".join([*self.first, *["..."][: self.count > len(self.first)]])


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return all special tokens of a tokenizer as strings, longest first; not only bos, eos and the like."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({*map(str, tokenizer.all_special_tokens), *added} - {""}, key=lambda t: (-len(t), t)))


def written_once(token: str) -> str:
    """Return the note for rows from which a duplicate begin or end token was removed; a predicate of rows."""
    return f"contain {token!r} where it is added anyway: the duplicate is removed"


def stripped(text: str, begins: Sequence[str], ends: Sequence[str]) -> tuple[str, list[str]]:
    """Remove control tokens that are added around a text anyway.

    White space outside of a removed token is removed, too; white space between it and the text remains.
    Returns (the text, the distinct removed tokens).

    Args:
        text: A turn or a document.
        begins: Tokens that are added before the text.
        ends: Tokens that are added after the text.
    """
    removed: list[str] = []
    while token := next((t for t in begins if t and text.lstrip().startswith(t)), None):
        text = text.lstrip().removeprefix(token)
        removed.append(token)
    while token := next((t for t in ends if t and text.rstrip().endswith(t)), None):
        text = text.rstrip().removesuffix(token)
        removed.append(token)
    return text, list(dict.fromkeys(removed))


def read_as_characters(token: str) -> str:
    """Return the note for rows with a control token of other tokenizers; a predicate of rows."""
    return f"contain {token!r}, which is not a token of this tokenizer and is read as plain characters"


@dataclass(frozen=True)
class ControlTokens:
    """Control tokens of a tokenizer, with searches for them in texts."""

    tokens: tuple[str, ...]
    """The longest first, because `any` matches the first that fits."""

    @cached_property
    def any(self) -> str:
        """Regular expression that matches any of the tokens; without tokens, one that never matches."""
        return "|".join(map(re.escape, self.tokens)) or r"(?!)"

    def within(self, texts: Sequence[str]) -> list[str]:
        """Return the distinct control tokens in texts, in order of their first occurrence."""
        return list(dict.fromkeys(token for text in texts for token in re.findall(self.any, text)))

    def count(self, rows_with_token: dict[str, RowsWithToken], texts: Sequence[str], where: str) -> None:
        """Count a row in `rows_with_token` for each control token that its texts contain.

        Args:
            rows_with_token: Control token -> its rows so far.
            texts: The texts of the row.
            where: File and line of the row.
        """
        for token in self.within(texts):
            rows_with_token.setdefault(token, RowsWithToken()).add(RowsWithToken(1, [where]))

    def foreign(self, texts: Sequence[str]) -> list[str]:
        """Return the distinct matches of WELL_KNOWN in texts that are not among `tokens`."""
        known = dict.fromkeys(token for text in texts for token in re.findall(WELL_KNOWN, text))
        return [token for token in known if token not in self.tokens]

    def surroundings(self, skeleton: str, num_turns: int) -> list[tuple[list[str], list[str]]]:
        """Return for each turn the control tokens directly before and after its text.

        Each item is (tokens before, tokens after). The list is empty if the skeleton doesn't have `num_turns`
        placeholders. A token that occurs only once, at the start of the row, counts as directly before every
        turn.

        Args:
            skeleton: The rendered conversation with `SENTINEL` in place of each turn's text.
            num_turns: Number of turns of the conversation.
        """
        gaps = skeleton.split(SENTINEL)
        if len(gaps) != num_turns + 1:
            return []
        first = re.match(self.any, skeleton)
        begin = [first[0]] if first and skeleton.count(first[0]) == 1 else []
        surroundings = []
        for before, after in zip(gaps, gaps[1:], strict=False):
            left = re.search(rf"(?:(?:{self.any})\s*)+\Z", before)
            right = re.match(rf"(?:\s*(?:{self.any}))+", after)
            begins = re.findall(self.any, left[0]) if left else []
            surroundings.append(([*begins, *begin], re.findall(self.any, right[0]) if right else []))
        return surroundings

    def begins_or_ends(self, text: str) -> bool:
        """Return whether a text begins or ends with a control token, white space around it aside."""
        return re.match(rf"\s*(?:{self.any})", text) is not None or text.rstrip().endswith(self.tokens)


def skeleton_of(conversation: Conversation) -> Conversation:
    """Return a copy of a conversation with SENTINEL as the text of each turn, to see what a template adds."""
    turns = tuple(replace(turn, text=SENTINEL, extra=bare(turn.extra)) for turn in conversation.turns)
    return replace(conversation, turns=turns)


def bare(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a turn's extra fields; an instruction becomes SENTINEL, and its input empty."""
    return dict(extra) | ({"instruction": SENTINEL, "input": ""} if "instruction" in extra else {})


def with_text(turn: Turn, text: str, tokens: Sequence[str]) -> Turn:
    """Return a copy of a turn with another text, and without `tokens` around its instruction and input.

    They are removed at the start of the instruction, and at the end of the input, or of the instruction if
    there is no input.
    """
    extra = dict(turn.extra)
    if "instruction" in extra:
        last = "input" if extra.get("input") else "instruction"
        extra["instruction"] = stripped(extra["instruction"], tokens, ())[0]
        extra[last] = stripped(extra[last], (), tokens)[0]
    return replace(turn, text=text, extra=extra)
