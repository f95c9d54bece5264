"""The merge section: how base model and adapter are merged."""

from dataclasses import dataclass
from enum import Enum


class MergeDtype(Enum):
    """Number format of the merged weights."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(kw_only=True)
class MergeConfig:
    """The base model and its adapter as one model.

    The sum is computed in float32, rounded once, and compared with the adapter model before it is published.

    Example:
        python -m workbench recipe=merge run_dir=runs/NAME merge.dtype=float16
    """

    dtype: MergeDtype = MergeDtype.auto
    """Number format of the merged weights. auto: the one that the model was loaded in."""
