"""Holds a prompt while it is continued."""

from dataclasses import dataclass, field

import torch


@dataclass
class Row:
    """A prompt and the tokens generated for it so far."""

    index: int
    """Index of the prompt among those that the caller gave."""
    prompt: list[int]
    sampler: torch.Generator
    generated: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """Token ids of the prompt and of the answer so far."""
        return self.prompt + self.generated
