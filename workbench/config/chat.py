"""The chat section: who answers in the terminal, and how."""

from dataclasses import dataclass, field

from workbench.config.names import MODELS
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError


@dataclass(kw_only=True)
class ChatConfig:
    r"""A conversation in the terminal with one or several models.

    Example:
        python -m workbench recipe=chat run_dir=runs/mine \
            chat.temperature=0.7 chat.max_new_tokens=256
    """

    models: list[str] = field(default_factory=list)
    """Models that answer, side by side: base, adapter, merged, trained. Empty: one model, the first that the
    run has of trained, adapter, merged, base."""
    turns: bool | None = None
    """true: each line is a turn of one conversation, written by the chat template. false: each line is a
    prompt of its own, which the model continues. null: as the run was trained; true without a run."""
    system: str | None = None
    """System message of the conversation, as /system sets it. null: none."""
    max_new_tokens: int = number(512, 1, 10**6)
    """Tokens after which an answer is cut off; fewer if the model's context has less room."""
    temperature: float = number(0.0, 0, 100)
    """0: the most likely token each time. Above 0: tokens are drawn; a higher value varies answers more."""
    top_k: int = number(0, 0, 10**6)
    """Number of most likely tokens to draw from; 0: all tokens."""
    top_p: float = number(1.0, 0, 1, above=True)
    """Draw from the most likely tokens whose probabilities add up to this; 1: all tokens."""
    seed: int = number(0, 0, 2**32 - 1)
    """Seed of the drawn tokens, as /seed sets it. Not the run's `seed`, which is part of its name."""

    def __post_init__(self) -> None:
        """Refuse unknown models and numbers out of range.

        Raises:
            ConfigError: A value is refused; the message has the key.
        """
        if unknown := [name for name in self.models if name not in MODELS]:
            raise ConfigError(f"chat.models: unknown model {unknown[0]!r} (known: {', '.join(MODELS)})")
        check_ranges(self, "chat")
