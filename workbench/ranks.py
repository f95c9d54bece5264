"""Several processes at work on one run: `torchrun` or `accelerate launch` starts them.

They talk to each other over gloo, whatever carries the gradients, and wait for each other as long as it
takes: one merges or downloads while the others have nothing to do.
"""

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")

PATIENCE = timedelta(days=7)
"""A rank that fails takes the others down at once; until then nothing is too slow."""


def ranks() -> tuple[int, int]:
    """The number of this process, and how many there are; joins them if nobody has yet."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not dist.is_available():
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)
    return dist.get_rank(), dist.get_world_size()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return ranks()[0] == 0


def wait() -> None:
    """Go on when all processes have come here."""
    if ranks()[1] > 1:
        dist.barrier(group=_group())


def of_first(make: Callable[[], Value]) -> Value:
    """What the first process makes, in every process; the others make nothing."""
    rank, world = ranks()
    if world == 1:
        return make()
    found = [make() if rank == 0 else None]
    dist.broadcast_object_list(found, src=0, group=_group())
    return found[0]  # type: ignore[return-value]


def gathered(found: dict[str, Value]) -> dict[str, Value]:
    """What all processes have found, in every process."""
    return {key: value for part in every(found) for key, value in part.items()}


def every(value: Value) -> list[Value]:
    """The value of each process, in their order, in every process."""
    world = ranks()[1]
    if world == 1:
        return [value]
    parts: list[Value | None] = [None] * world
    dist.all_gather_object(parts, value, group=_group())
    return parts  # type: ignore[return-value]


def summed(*numbers: float) -> list[float]:
    """The sum over all processes of each number."""
    if ranks()[1] == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(total, group=_group())
    return total.tolist()


@cache
def _group() -> dist.ProcessGroup:
    """All processes, over gloo: objects travel as bytes of CPU memory, which NCCL can't carry."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=PATIENCE)
    return group
