"""The chat section: who answers in the terminal, and how."""

from dataclasses import dataclass, field

from workbench.config.names import MODELS
from workbench.config.ranges import check_ranges, number
from workbench.errors import ConfigError


@dataclass(kw_only=True)
class ChatConfig:
    """The `chat` section."""

    models: list[str] = field(default_factory=list)
    """Which answer: base, adapter, merged, trained; several side by side; empty: what was trained."""
    turns: bool | None = None
    """Lines are turns of one conversation, written by the chat template. False: each line is a prompt of its
    own, continued as it is. null: as the run was trained; turns where a model was not trained here."""
    system: str | None = None
    """What stands before the conversation, as /system says it."""
    max_new_tokens: int = number(512, 1, 10**6)
    """Longest answer, in tokens; shorter where the model's context has less room."""
    temperature: float = number(0.0, 0, 100)
    """0 takes the likeliest token each time."""
    top_k: int = number(0, 0, 10**6)
    """With a temperature: tokens are drawn from so many of the likeliest; 0: from all."""
    top_p: float = number(1.0, 0, 1, above=True)
    """With a temperature: tokens are drawn from the likeliest whose probabilities together reach this."""
    seed: int = number(0, 0, 2**32 - 1)
    """Of what is drawn, as /seed says it; apart from `seed`, which belongs to the run."""

    def __post_init__(self) -> None:
        """Refuse unknown models and numbers out of range.

        Raises:
            ConfigError: with the key.
        """
        if unknown := [name for name in self.models if name not in MODELS]:
            raise ConfigError(f"chat.models: unknown model {unknown[0]!r} (known: {', '.join(MODELS)})")
        check_ranges(self, "chat")
