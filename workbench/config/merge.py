"""The merge section: how base and adapter become one plain model."""

from dataclasses import dataclass
from enum import Enum

from workbench.config.export import check_size
from workbench.errors import ConfigError


class MergeDtype(Enum):
    """Number format of the merged weights."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(kw_only=True)
class MergeConfig:
    """The sum is made in float32, rounded once, and proven against the adapter model before it is kept."""

    dtype: MergeDtype = MergeDtype.auto
    """What the merged weights are rounded to; auto: the dtype that the model was loaded in."""
    max_shard_size: str = "4GB"
    """Largest file of the merged folder, such as `500MB` or `4GB`."""
    tolerance: float = 1e-4
    """Largest allowed logit difference in float32, as a share of the largest logit."""
    probe_size: int = 16
    """How many probe texts are compared; the first ones are taken."""
    probe_length: int = 128
    """Tokens of each probe text that are compared."""
    batch_size: int = 4
    """Probe texts that are scored at once."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        if not 0.0 < self.tolerance < 1.0:
            raise ConfigError(f"merge.tolerance: {self.tolerance!r} is no share (more than 0, less than 1)")
        check_size("merge.max_shard_size", self.max_shard_size)
        for name in ("probe_size", "probe_length", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"merge.{name}: {getattr(self, name)!r} is too few (1 or more)")
