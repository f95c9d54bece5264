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


def rank_and_world_size() -> tuple[int, int]:
    """The number of this process, and how many there are; joins them if nobody has yet."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not dist.is_available():
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)
    return dist.get_rank(), dist.get_world_size()


def is_rank0() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank_and_world_size()[0] == 0


def is_sharded() -> bool:
    """Whether accelerate spreads the weights over the processes (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def barrier() -> None:
    """Go on when all processes have come here."""
    if rank_and_world_size()[1] > 1:
        dist.barrier(group=_group())


def broadcast_from_rank0(make: Callable[[], Value]) -> Value:
    """What the first process makes, in every process; the others make nothing."""
    rank, world = rank_and_world_size()
    if world == 1:
        return make()
    found = [make() if rank == 0 else None]
    dist.broadcast_object_list(found, src=0, group=_group())
    return found[0]  # type: ignore[return-value]


def all_gather_dict(found: dict[str, Value]) -> dict[str, Value]:
    """What all processes have found, in every process."""
    return {key: value for part in all_gather(found) for key, value in part.items()}


def all_gather(value: Value) -> list[Value]:
    """The value of each process, in their order, in every process."""
    world = rank_and_world_size()[1]
    if world == 1:
        return [value]
    parts: list[Value | None] = [None] * world
    dist.all_gather_object(parts, value, group=_group())
    return parts  # type: ignore[return-value]


def all_reduce_sum(*numbers: float) -> list[float]:
    """The sum over all processes of each number."""
    if rank_and_world_size()[1] == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(total, group=_group())
    return total.tolist()


@cache
def _group() -> dist.ProcessGroup:
    """All processes, over gloo: objects travel as bytes of CPU memory, which NCCL can't carry."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=PATIENCE)
    return group
