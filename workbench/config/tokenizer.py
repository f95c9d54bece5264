"""The tokenizer section: a vocabulary learned from text, or an old one extended."""

from dataclasses import dataclass

from workbench.config.ranges import check_ranges, number

FEWEST = 300
"""Smallest vocabulary: four special tokens, 256 bytes, and some characters."""


@dataclass(kw_only=True)
class TokenizerConfig:
    r"""recipe=tokenizer learns a vocabulary from text, recipe=extend adds tokens to that of a model.

    Tokens are byte pairs as in SentencePiece, with LLaMA's byte fallback.

    Example:
        python -m workbench recipe=extend model.path=MODEL \
            data.path=text.jsonl tokenizer.num_new_tokens=8000
    """

    vocab_size: int = number(32000, FEWEST, 2**22)
    """recipe=tokenizer: number of tokens, including special tokens, 256 bytes and characters."""
    num_new_tokens: int = number(8000, 1, 2**22)
    """recipe=extend: most tokens to add."""
    pieces: str | None = None
    """recipe=extend: tokenizer whose tokens are added; a folder, tokenizer.json, `.model` file or hub id.
    null: tokens are learned from the text."""
    add_ascii: bool = False
    """recipe=extend: true adds tokens of ASCII characters too, for code or for a language in Latin letters.
    false leaves the tokens of English text as they were."""
    character_coverage: float = number(0.9995, 0.5, 1)
    """Share of the text whose characters get a token each. Rarer characters are spelled in bytes. Lower it
    for a small Chinese vocabulary; raise it to 1 if every rare character matters."""

    def __post_init__(self) -> None:
        """Raise ConfigError if a number is out of range."""
        check_ranges(self, "tokenizer")
