"""The adapter section: what is trained on top of the base model."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.errors import ConfigError

AdapterMethod = Enum("AdapterMethod", {"none": "none", "lora": "lora", "dora": "dora"})
"""`none` trains the whole model; `lora` is arXiv:2106.09685; `dora` is arXiv:2402.09353."""

AdapterInit = Enum(
    "AdapterInit",
    {name: name for name in ("default", "gaussian", "orthogonal", "pissa", "olora")},
)
"""How A and B start; `pissa` (arXiv:2404.02948) and `olora` (arXiv:2406.01775) read the base weights."""

ALL_LINEAR = "all-linear"


@dataclass(kw_only=True)
class AdapterConfig:
    """LoRA and its relatives, as peft's `LoraConfig` understands them."""

    method: AdapterMethod = AdapterMethod.lora
    """`lora`, `dora`, or `none`: no adapter, the model itself is trained (never on a quantized base)."""
    path: str | None = None
    """Folder of an existing adapter in peft's format to go on from; its own shape then holds, not the fields below."""
    rank: int = 16
    """Inner size of the update B·A of each layer."""
    alpha: float = 32.0
    """The update is scaled by alpha / rank (by alpha / sqrt(rank) with `use_rslora`), so a rate fits other ranks too."""
    dropout: float = 0.0
    """Share of the adapter's inputs that is zeroed while training."""
    target_modules: list[str] = field(default_factory=lambda: [ALL_LINEAR])
    """Linear layers that get an adapter: last parts of their names, or `[all-linear]` for all but the head."""
    modules_to_save: list[str] = field(default_factory=list)
    """Layers that are trained and saved whole; a classifier's `score` head always is."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank), which keeps large ranks learning (arXiv:2312.03732)."""
    init: AdapterInit = AdapterInit.default
    """`default`: A random, B zero, so that training starts at the base. `pissa` and `olora` need an unquantized base."""
    rank_pattern: dict[str, int] = field(default_factory=dict)
    """Other ranks for some layers: a name's last part, or a regular expression -> rank."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        if self.rank < 1:
            raise ConfigError(f"adapter.rank: {self.rank!r} is no rank (1 or more)")
        if self.alpha <= 0:
            raise ConfigError(f"adapter.alpha: {self.alpha!r} would switch the adapter off (more than 0)")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"adapter.dropout: {self.dropout!r} is no share (0 or more, less than 1)")
        if not self.target_modules:
            raise ConfigError(f"adapter.target_modules: is empty (name layers, or use [{ALL_LINEAR}])")
        for name, rank in self.rank_pattern.items():
            if rank < 1:
                raise ConfigError(f"adapter.rank_pattern.{name}: {rank!r} is no rank (1 or more)")
        if self.method == AdapterMethod.dora and self.init in (AdapterInit.pissa, AdapterInit.olora):
            raise ConfigError(f"adapter.init: {self.init.name!r} goes with method lora, not dora (use default)")
