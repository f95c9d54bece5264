"""Gives each token of a text its part of the text, for log-probabilities by OpenAI's interface."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from workbench.evaluation.inference.stop_rules import INCOMPLETE

_LONGEST_CHARACTER = 8
"""Tokens after which a character that is still incomplete is taken as it is; UTF-8 has at most 4 bytes."""
_ANCHOR = "a"
"""Text before a single token, so that decoding keeps the token's leading space."""


class TokenTexts:
    """Texts of a tokenizer's tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Create the texts of a tokenizer's tokens, which are decoded when they are asked for."""
        self.tokenizer = tokenizer
        self._anchor = list(tokenizer(_ANCHOR, add_special_tokens=False)["input_ids"])
        self._before = self._decode(self._anchor)
        self._names: dict[int, str] = {}

    def name(self, token: int, as_id: bool = False) -> str:
        """Return the text of a token in the middle of a text.

        A token that is a part of a character, and with `as_id` every token, is `token_id:N`.
        """
        if as_id:
            return f"token_id:{token}"
        if token not in self._names:
            text = self._decode([*self._anchor, token])
            is_whole = text.startswith(self._before) and INCOMPLETE not in text
            self._names[token] = text[len(self._before) :] if is_whole else f"token_id:{token}"
        return self._names[token]

    def parts(self, tokens: Sequence[int], first: int = 0) -> list[str]:
        """Return the part of each token from position `first` on of the text that all tokens are decoded to.

        A character of several tokens belongs to its last one. Joined, the parts of all tokens are the text.
        """
        tokens = tokens[max(0, first - _LONGEST_CHARACTER) :] if first else tokens
        num_before = min(first, _LONGEST_CHARACTER)
        parts: list[str] = []
        start, read = 0, 0  # decoded again, for a token's leading space; read so far
        before = ""
        for end in range(1, len(tokens) + 1):
            text = self._decode(tokens[start:end])
            is_whole = not text.endswith(INCOMPLETE) or end - read >= _LONGEST_CHARACTER or end == len(tokens)
            parts.append(text[len(before) :] if is_whole else "")
            if is_whole:
                start, read = read, end
                before = self._decode(tokens[start:read])
        return parts[num_before:]

    def dropped_space(self, before: Sequence[int], tokens: Sequence[int], text: str) -> str:
        """Return the space between the tokens `before` and `tokens`, if `text` lacks it; else an empty text.

        `text` is what `tokens` are decoded to without those before them: tokenizers such as LLaMA's then drop
        a leading space.
        """
        joined = "".join(self.parts([*before, *tokens], len(before))) if before and text else ""
        spaces, kept = (len(some) - len(some.lstrip(" ")) for some in (joined, text))
        return " " if joined and spaces == kept + 1 else ""

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )
