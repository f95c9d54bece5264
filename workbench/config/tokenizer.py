"""The tokenizer section: a vocabulary learned from text, or an old one extended."""

from dataclasses import dataclass

from workbench.config.ranges import check_ranges, number

FEWEST = 300
"""Four special tokens, 256 bytes, and some characters."""


@dataclass(kw_only=True)
class TokenizerConfig:
    """Byte pairs as SentencePiece learns them, with LLaMA's byte fallback."""

    vocab_size: int = number(32000, FEWEST, 2**22)
    """Tokens of a new tokenizer in all: special ones, 256 bytes, characters and pieces of words."""
    num_new_tokens: int = number(8000, 1, 2**22)
    """Tokens that an extension adds at most."""
    pieces: str | None = None
    """Folder, tokenizer.json, `.model` or hub id with pieces to add; None: learned from the text."""
    add_ascii: bool = False
    """Also add pieces of ASCII alone; without them an extension leaves the tokens of English as they were."""
    min_frequency: int = number(2, 1, 10**9)
    """A pair that the text holds less often is not joined."""
    max_piece_length: int = number(16, 1, 10**4)
    """Characters of the longest piece."""
    character_coverage: float = number(0.9995, 0.5, 1)
    """Share of the text whose characters get a token each; the rare ones beyond are spelled in bytes."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        check_ranges(self, "tokenizer")
