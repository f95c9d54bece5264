"""Says how prompts are continued, to each way of decoding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.stop_rules import Endings


@dataclass(frozen=True)
class DecodingSettings:
    """A model, how its tokens are chosen, where its answers end, and how much is decoded at once."""

    lm: TransformersLM
    limits: GenerationConfig
    endings: Endings
    on_token: Callable[[Sequence[int]], None] | None
    """Called with the generated tokens of an answer, after each new token."""
    most_cached: int | None
    """Largest number of tokens in the caches of prompts decoded together, except shared prefixes; None: as
    many as the way of decoding chooses itself."""
