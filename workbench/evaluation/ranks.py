"""Several processes that share the items of a benchmark: `torchrun` or `accelerate launch` starts them."""

import os
from typing import TypeVar

import torch.distributed as dist

Value = TypeVar("Value")


def ranks() -> tuple[int, int]:
    """The number of this process, and how many there are; joins them if nobody has yet."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not dist.is_available():
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def gathered(found: dict[str, Value]) -> dict[str, Value]:
    """What all processes have found, in every process."""
    if ranks()[1] == 1:
        return found
    # Objects travel as bytes of CPU memory, which NCCL can't carry.
    group = dist.new_group(backend="gloo")
    parts: list[dict[str, Value] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, found, group=group)
    dist.destroy_process_group(group)
    return {key: value for part in parts if part is not None for key, value in part.items()}
