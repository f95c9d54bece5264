"""Control tokens in the rows' own text as plain characters (`data.split_special_tokens`)."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from workbench.data.conversations import Conversation
from workbench.data.tokens.control_tokens import ControlTokens, control_tokens
from workbench.errors import DataError

OPEN, CLOSE, LITERAL = "\ufdd0", "\ufdd1", "\ufdd2"
"""Characters that Unicode will never assign: around a control token that is one, around one that is text."""


class LiteralTokenizer:
    """A tokenizer for texts whose own control tokens are hidden; those that a template writes count as such.

    It is a copy of the model's in which each special token has a spelling that no text can hold.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Make the copy."""
        self.control = ControlTokens(control_tokens(tokenizer))
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        self.encoder = Tokenizer.from_str(json.dumps(respelled(state, self.control.tokens)))

    def __call__(self, texts: Sequence[str], add_special_tokens: bool = False) -> dict[str, list[list[int]]]:
        """The ids of each text under the key `input_ids`, as transformers' tokenizers give them."""
        respelled_texts = [
            self.shown(re.sub(self.control.any, lambda match: spelling(match[0]), text)) for text in texts
        ]
        encoded = self.encoder.encode_batch(respelled_texts, add_special_tokens=False)
        return {"input_ids": [encoding.ids for encoding in encoded]}

    def hidden(self, value: Any, where: str) -> Any:
        """A JSON value whose texts hold a number instead of each control token.

        Raises:
            DataError: A text holds one of the characters that mark these numbers.
        """
        if isinstance(value, str):
            if re.search(f"[{OPEN}{CLOSE}{LITERAL}]", value):
                raise DataError(
                    f"{where}: holds one of U+FDD0 to U+FDD2, which mark text with data.split_special_tokens "
                    "(take it out: Unicode doesn't assign these characters)"
                )
            return re.sub(self.control.any, self._number, value)
        if isinstance(value, Mapping):
            return {key: self.hidden(part, where) for key, part in value.items()}
        return [self.hidden(part, where) for part in value] if isinstance(value, list) else value

    def hidden_in(self, conversation: Conversation) -> Conversation:
        """The conversation with the control tokens of all its texts hidden."""
        where = conversation.where
        found = self.control.within([turn.text for turn in conversation.turns])
        notes = (*conversation.notes, *map(split_up, found))
        turns = tuple(
            replace(turn, text=self.hidden(turn.text, where), extra=self.hidden(turn.extra, where))
            for turn in conversation.turns
        )
        return replace(conversation, turns=turns, tools=self.hidden(conversation.tools, where), notes=notes)

    def shown(self, text: str) -> str:
        """A text with its hidden control tokens written out again."""
        return re.sub(f"{LITERAL}([0-9]+){LITERAL}", lambda match: self.control.tokens[int(match[1])], text)

    def _number(self, match: re.Match[str]) -> str:
        return f"{LITERAL}{self.control.tokens.index(match[0])}{LITERAL}"


def split_up(token: str) -> str:
    """What is said of rows whose control tokens are read as characters."""
    return f"hold {token!r} in their own text, read as characters"


def spelling(token: str) -> str:
    """How the copy of the tokenizer spells a control token."""
    return f"{OPEN}{token}{CLOSE}"


def respelled(state: dict[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """The contents of a tokenizer.json with other spellings of some tokens, for encoding only."""
    names = {token: spelling(token) for token in tokens}
    for added in state["added_tokens"]:
        added["content"] = names.get(added["content"], added["content"])
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): number for token, number in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    return state | {"post_processor": None}
