"""Control tokens in the rows' own text: begin and end tokens written once, all others counted by name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.data.conversations import Conversation, Turn

SENTINEL = "\ufdd3"
"""Stands for a turn's text in the skeleton of a conversation. Unicode will never assign this character."""

WELL_KNOWN = (
    r"<\|(?:im_start|im_end|im_sep|endoftext|begin_of_text|end_of_text|eot_id|start_header_id|end_header_id"
    r"|system|user|assistant|end|return)\|>|</?s>|<(?:start|end)_of_turn>"
)
"""Control tokens of the commonest model families."""

NUM_PLACES = 3
"""Rows named for each control token."""


@dataclass
class Places:
    """How many rows hold a control token, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, other: "Places") -> None:
        """Count further rows in."""
        self.count += other.count
        self.first = [*self.first, *other.first][:NUM_PLACES]

    def __str__(self) -> str:
        """The rows that are named."""
        return ", ".join([*self.first, *["..."][: self.count > len(self.first)]])


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The texts of all special tokens, also of those that the tokenizer has no name for; longest first."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({*map(str, tokenizer.all_special_tokens), *added} - {""}, key=lambda t: (-len(t), t)))


def written_once(token: str) -> str:
    """What is said of rows that hold a begin or end token which is written for them anyway."""
    return f"hold a {token!r} of their own where one is written anyway: it is left once"


def stripped(text: str, begins: Sequence[str], ends: Sequence[str]) -> tuple[str, list[str]]:
    """The text without the control tokens that are written around it anyway, and these tokens.

    White space outside such a token goes with it; white space inside belongs to the text.

    Args:
        text: Of a turn or a document.
        begins: Tokens that are written before it.
        ends: Tokens that are written behind it.
    """
    taken: list[str] = []
    while token := next((t for t in begins if t and text.lstrip().startswith(t)), None):
        text = text.lstrip().removeprefix(token)
        taken.append(token)
    while token := next((t for t in ends if t and text.rstrip().endswith(t)), None):
        text = text.rstrip().removesuffix(token)
        taken.append(token)
    return text, list(dict.fromkeys(taken))


def read_as_characters(token: str) -> str:
    """What is said of rows that hold another tokenizer's control token."""
    return f"hold {token!r}, which is no token of this tokenizer and is read as characters"


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of a tokenizer, looked for in texts."""

    tokens: tuple[str, ...]

    @cached_property
    def any(self) -> str:
        """A regular expression for any of them."""
        return "|".join(map(re.escape, self.tokens)) or r"(?!)"

    def within(self, texts: Sequence[str]) -> list[str]:
        """The different control tokens in some texts, in the order of their first place."""
        return list(dict.fromkeys(token for text in texts for token in re.findall(self.any, text)))

    def count(self, places: dict[str, Places], texts: Sequence[str], where: str) -> None:
        """Add a row's control tokens to the counts."""
        for token in self.within(texts):
            places.setdefault(token, Places()).add(Places(1, [where]))

    def foreign(self, texts: Sequence[str]) -> list[str]:
        """Control tokens of other tokenizers in some texts, which this one reads as characters."""
        found = dict.fromkeys(mark for text in texts for mark in re.findall(WELL_KNOWN, text))
        return [mark for mark in found if mark not in self.tokens]

    def surroundings(self, skeleton: str, num_turns: int) -> list[tuple[list[str], list[str]]]:
        """For each turn the control tokens right before and right behind it; empty: the turns can't be told.

        A token that stands once, at the very beginning of the row, counts as being right before every turn.

        Args:
            skeleton: The rendered conversation with `SENTINEL` for each turn's text.
            num_turns: Turns of the conversation.
        """
        parts = skeleton.split(SENTINEL)
        if len(parts) != num_turns + 1:
            return []
        first = re.match(self.any, skeleton)
        begin = [first[0]] if first and skeleton.count(first[0]) == 1 else []
        found = []
        for before, behind in zip(parts, parts[1:], strict=False):
            left = re.search(rf"(?:(?:{self.any})\s*)+\Z", before)
            right = re.match(rf"(?:\s*(?:{self.any}))+", behind)
            begins = re.findall(self.any, left[0]) if left else []
            found.append(([*begins, *begin], re.findall(self.any, right[0]) if right else []))
        return found

    def begins_or_ends(self, text: str) -> bool:
        """Whether a text begins or ends with a control token."""
        return re.match(rf"\s*(?:{self.any})", text) is not None or text.rstrip().endswith(self.tokens)


def skeleton_of(conversation: Conversation) -> Conversation:
    """The conversation with `SENTINEL` for the text of each turn."""
    turns = tuple(replace(turn, text=SENTINEL, extra=bare(turn.extra)) for turn in conversation.turns)
    return replace(conversation, turns=turns)


def bare(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What a turn holds besides its text, an instruction with its input as one sentinel."""
    return dict(extra) | ({"instruction": SENTINEL, "input": ""} if "instruction" in extra else {})


def with_text(turn: Turn, text: str, tokens: Sequence[str]) -> Turn:
    """The turn with another text; its instruction and input lose the same tokens."""
    extra = dict(turn.extra)
    if "instruction" in extra:
        last = "input" if extra.get("input") else "instruction"
        extra["instruction"] = stripped(extra["instruction"], tokens, ())[0]
        extra[last] = stripped(extra[last], (), tokens)[0]
    return replace(turn, text=text, extra=extra)
