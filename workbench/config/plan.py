"""The plan section: the machine for which memory and time of a training are forecast."""

from dataclasses import dataclass
from enum import Enum

from workbench.config.ranges import check_ranges, number

Gpu = Enum(
    "Gpu",
    {
        "t4": "t4",
        "v100-32gb": "v100-32gb",
        "l4": "l4",
        "a10": "a10",
        "rtx-3090": "rtx-3090",
        "rtx-4090": "rtx-4090",
        "a100-40gb": "a100-40gb",
        "a100-80gb": "a100-80gb",
        "h100": "h100",
        "h200": "h200",
    },
)
"""GPUs whose memory and speed this program knows."""


@dataclass(kw_only=True)
class PlanConfig:
    r"""The machine that recipe=plan forecasts a training for.

    Example:
        python -m workbench recipe=plan model.path=MODEL \
            data.path=rows.jsonl plan.gpu=l4
    """

    gpu: Gpu | None = None
    """GPU to plan for. null: this machine."""
    memory_gib: float | None = number(None, 0, 10**6, above=True)
    """GiB of memory that the training may use. null: all memory of plan.gpu, or the free memory of this
    machine."""

    def __post_init__(self) -> None:
        """Refuse a memory that is out of range.

        Raises:
            ConfigError: `memory_gib` isn't positive, or is too large.
        """
        check_ranges(self, "plan")
