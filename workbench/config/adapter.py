"""The adapter section: what is trained on top of the base model."""

import re
from dataclasses import dataclass, field
from enum import Enum

from workbench.config.ranges import check_ranges, number, numbers
from workbench.errors import ConfigError


class AdapterMethod(Enum):
    """What is put on the base model."""

    none = "none"
    lora = "lora"
    dora = "dora"


class AdapterInit(Enum):
    """How the adapter's matrices A and B start."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    pissa = "pissa"
    olora = "olora"


ALL_LINEAR = "all-linear"


@dataclass(kw_only=True)
class AdapterConfig:
    """LoRA and its relatives, as peft's `LoraConfig` understands them."""

    method: AdapterMethod = AdapterMethod.lora
    """lora (arXiv:2106.09685), dora (arXiv:2402.09353); none: an unquantized model is trained itself."""
    path: str | None = None
    """Folder or hub id of an adapter to go on from; its own shape then holds, not the fields below."""
    rank: int = number(16, 1, 2**16)
    """Inner size of the update B·A of each layer."""
    alpha: float = number(32.0, 0, 10**6, above=True)
    """The update is scaled by alpha / rank, so that a learning rate fits other ranks too."""
    dropout: float = number(0.0, 0, 1, below=True)
    """Share of the adapter's inputs that is zeroed while training."""
    target_modules: list[str] = field(default_factory=lambda: [ALL_LINEAR])
    """Layers that get an adapter, by the last part of their names; [all-linear]: all but the head."""
    modules_to_save: list[str] = field(default_factory=list)
    """Layers that are trained and saved whole; a classifier's `score` head always is."""
    trainable_tokens: list[str] = field(default_factory=list)
    """Tokens of the vocabulary whose embeddings are trained too, such as new marks of a chat template."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank), which keeps large ranks learning (arXiv:2312.03732)."""
    init: AdapterInit = AdapterInit.default
    """pissa (arXiv:2404.02948) and olora (arXiv:2406.01775) start from the base's weights, quantized or not.

    The base stays as it is: such an adapter has twice the rank, half of which takes the start out again."""
    rank_pattern: dict[str, int] = numbers(dict, 1, 2**16)
    """Other ranks for some layers: a name's last part, or a regular expression -> rank."""
    trainable_tokens_from: int | None = number(None, 0, 10**8)
    """Tokens from this number on have their embedding rows trained too; None: those of `recipe=extend`."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        check_ranges(self, "adapter")
        targets = self.target_modules
        if not targets or (ALL_LINEAR in targets and len(targets) > 1):
            raise ConfigError(f"adapter.target_modules: {targets!r} (name layers, or [{ALL_LINEAR}] alone)")
        for name in self.rank_pattern:
            try:
                re.compile(name)
            except (re.error, OverflowError, RecursionError) as error:
                raise ConfigError(f"adapter.rank_pattern: {name!r:.100} is no pattern: {error}") from error
        odd = [rank for rank in (self.rank, *self.rank_pattern.values()) if rank % 2]
        if self.init is AdapterInit.orthogonal and odd:
            raise ConfigError(f"adapter.rank: {odd[0]!r} is odd, and adapter.init=orthogonal halves it")
        if self.method == AdapterMethod.dora and self.init in (AdapterInit.pissa, AdapterInit.olora):
            raise ConfigError(f"adapter.init: {self.init.name!r} goes with lora, not with dora (use default)")
