"""Defines a generated text with the reason of its end."""

from typing import NamedTuple


class GeneratedText(NamedTuple):
    """Text that a model has generated."""

    text: str
    """The text before the token or stop text that ended it."""
    finish_reason: str | None
    """`stop`: an end token or a stop text ended it. `length`: the token limit did. None: unknown."""
    thought_cut: bool | None = None
    """Whether a thinking budget ended its thought; None: there is no budget."""
