"""The tokenizer section: a vocabulary learned from text, or an old one extended."""

from dataclasses import dataclass

from workbench.errors import ConfigError

FEWEST = 300
"""Four special tokens, 256 bytes, and some characters."""


@dataclass(kw_only=True)
class TokenizerConfig:
    """Byte pairs as SentencePiece learns them, with LLaMA's byte fallback."""

    vocab_size: int = 32000
    """Tokens of a new tokenizer in all: special ones, 256 bytes, characters and pieces of words."""
    num_new_tokens: int = 8000
    """Tokens that an extension adds at most."""
    pieces: str | None = None
    """Folder, tokenizer.json, `.model` or hub id with pieces to add; None: learned from the text."""
    add_ascii: bool = False
    """Also add pieces of ASCII alone; without them an extension leaves the tokens of English as they were."""
    min_frequency: int = 2
    """A pair that the text holds less often is not joined."""
    max_piece_length: int = 16
    """Characters of the longest piece."""
    character_coverage: float = 0.9995
    """Share of the text whose characters get a token each; the rare ones beyond are spelled in bytes."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        if self.vocab_size < FEWEST:
            raise ConfigError(f"tokenizer.vocab_size: {self.vocab_size!r} is too small ({FEWEST} or more)")
        for key in ("num_new_tokens", "min_frequency", "max_piece_length"):
            if (value := getattr(self, key)) < 1:
                raise ConfigError(f"tokenizer.{key}: {value!r} is too small (1 or more)")
        if not 0.5 <= self.character_coverage <= 1.0:
            raise ConfigError(
                f"tokenizer.character_coverage: {self.character_coverage!r} is no share (0.5 to 1)"
            )
