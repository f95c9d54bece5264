"""Encodes control tokens in the text of rows as plain characters, for `data.split_special_tokens`."""

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
"""Characters that Unicode never assigns: OPEN and CLOSE enclose a control token of the template.

LITERAL encloses the number of a control token in a row's text.
"""


class LiteralTokenizer:
    """Encodes control tokens of the template as tokens, and control tokens in rows' text as characters.

    Rows are first passed through `hidden`, which replaces their control tokens by marked numbers; then the
    template is rendered, and `__call__` encodes the result. The encoder is a copy of the model's tokenizer in
    which each special token has a spelling that no text can contain; ids are the same.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Copy a tokenizer with other spellings of its special tokens."""
        self.control = ControlTokens(control_tokens(tokenizer))
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        self.encoder = Tokenizer.from_str(json.dumps(respelled(state, self.control.tokens)))

    def __call__(self, texts: Sequence[str], add_special_tokens: bool = False) -> dict[str, list[list[int]]]:
        """Encode texts without adding special tokens; the result has the key `input_ids`, as in transformers.

        Control tokens in the texts become their ids, and the numbers from `hidden` plain characters.
        `add_special_tokens` is ignored.
        """
        respelled_texts = [
            self.shown(re.sub(self.control.any, lambda match: spelling(match[0]), text)) for text in texts
        ]
        encoded = self.encoder.encode_batch(respelled_texts, add_special_tokens=False)
        return {"input_ids": [encoding.ids for encoding in encoded]}

    def hidden(self, value: Any, where: str) -> Any:
        """Return a copy of a JSON value with each control token in its strings replaced by a marked number.

        The number is the token's index in `control.tokens`, between two characters LITERAL.

        Raises:
            DataError: A string contains OPEN, CLOSE or LITERAL; the message begins with `where`.
        """
        if isinstance(value, str):
            if re.search(f"[{OPEN}{CLOSE}{LITERAL}]", value):
                raise DataError(
                    f"{where}: contains one of U+FDD0 to U+FDD2, marks of data.split_special_tokens "
                    "(remove it: Unicode assigns no character to these)"
                )
            return re.sub(self.control.any, self._number, value)
        if isinstance(value, Mapping):
            return {key: self.hidden(inner, where) for key, inner in value.items()}
        return [self.hidden(inner, where) for inner in value] if isinstance(value, list) else value

    def hidden_in(self, conversation: Conversation) -> Conversation:
        """Return a copy of a conversation with its texts, extra fields and tools passed through `hidden`.

        It gets a note for each control token in its texts.
        """
        where = conversation.where
        tokens = self.control.within([turn.text for turn in conversation.turns])
        notes = (*conversation.notes, *map(split_up, tokens))
        turns = tuple(
            replace(turn, text=self.hidden(turn.text, where), extra=self.hidden(turn.extra, where))
            for turn in conversation.turns
        )
        return replace(conversation, turns=turns, tools=self.hidden(conversation.tools, where), notes=notes)

    def shown(self, text: str) -> str:
        """Return a text with the marked numbers replaced by their control tokens: the inverse of `hidden`."""
        return re.sub(f"{LITERAL}([0-9]+){LITERAL}", lambda match: self.control.tokens[int(match[1])], text)

    def _number(self, match: re.Match[str]) -> str:
        return f"{LITERAL}{self.control.tokens.index(match[0])}{LITERAL}"


def split_up(token: str) -> str:
    """Return the note for rows with a control token that is read as plain characters; a predicate of rows."""
    return f"contain {token!r} in their text, read as plain characters"


def spelling(token: str) -> str:
    """Return the spelling of a control token in the copied tokenizer, which no text can contain."""
    return f"{OPEN}{token}{CLOSE}"


def respelled(state: dict[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """Return the contents of a tokenizer.json with the `spelling` of `tokens`, and without post-processor.

    The dictionaries inside `state` are changed.
    """
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
