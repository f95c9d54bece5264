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
    """Base and adapter become one model.

    The sum is computed in float32, rounded once, and compared with the adapter model before it is published.

    Example:
        python -m workbench recipe=merge run_dir=runs/NAME merge.dtype=float16
    """

    dtype: MergeDtype = MergeDtype.auto
    """Number format of the merged weights. auto: the one that the model was loaded in."""
    max_shard_size: str = "4GB"
    """Largest weight file of the merged folder, such as 500MB or 4GB."""
    tolerance: float = number(1e-4, 0, 1, above=True, below=True)
    """Largest difference between logits of merged and adapter model in float32, as a share of the largest
    logit. A larger one is an error."""
    probe_size: int = number(16, 1, 10**6)
    """Number of texts on which both models are compared: prompts of the first training rows, or built-in
    sentences if there are no rows."""
    probe_length: int = number(128, 1, 10**7)
    """Tokens of each text that are compared."""
    batch_size: int = number(4, 1, 10**6)
    """Texts per forward pass of the comparison. Lower it when memory runs out."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        check_ranges(self, "merge")
        check_size("merge.max_shard_size", self.max_shard_size)
