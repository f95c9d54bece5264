"""Encodes prompts as a causal model reads them, which takes its tokenizer and not its weights."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from workbench.evaluation.inference import encoding
from workbench.evaluation.inference.prefix_tree import TokenRequest


class PromptEncoder:
    """Tokenizer and context length of a causal model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        """Create an encoder of prompts; `max_length` is the number of tokens that the model may read."""
        self.tokenizer = tokenizer
        self.max_length = max_length

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text as a prompt, with the special tokens that precede a text."""
        return encoding.encode(self.tokenizer, texts)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]], whole_text: bool = False) -> list[TokenRequest]:
        """Return requests that score each continuation after its context, by `encoding.encode_pairs`."""
        return encoding.encode_pairs(self.tokenizer, pairs, whole_text)

    @property
    def start_token(self) -> int:
        """Token before a text without context."""
        return encoding.start_token(self.tokenizer)
