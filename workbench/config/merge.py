"""The merge section: how base and adapter become one plain model."""

from dataclasses import dataclass
from enum import Enum

from workbench.config.export import check_size
from workbench.config.ranges import check_ranges, number


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
    tolerance: float = number(1e-4, 0, 1, above=True, below=True)
    """Largest allowed logit difference in float32, as a share of the largest logit."""
    probe_size: int = number(16, 1, 10**6)
    """How many probe texts are compared; the first ones are taken."""
    probe_length: int = number(128, 1, 10**7)
    """Tokens of each probe text that are compared."""
    batch_size: int = number(4, 1, 10**6)
    """Probe texts that are scored at once."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        check_ranges(self, "merge")
        check_size("merge.max_shard_size", self.max_shard_size)
