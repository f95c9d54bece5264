"""Collective operations of the processes that `torchrun` or `accelerate launch` starts for one run.

They use gloo, whichever backend reduces the gradients, and practically never time out: one rank may merge or
download while the others wait.
"""

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from workbench.errors import WorkbenchError

Value = TypeVar("Value")

PATIENCE = timedelta(days=7)
"""Timeout of the collectives; a rank that fails ends the others at once anyway."""
PATIENCE_WITH_FAILURE = timedelta(minutes=10)
"""Time that a failed rank waits in `agreed_failure` for the other ranks, before it ends the command."""


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes: (0, 1) if it runs alone.

    The first call joins the process group, for which all ranks must call this.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not dist.is_available():
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)
    return dist.get_rank(), dist.get_world_size()


def unsplit_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """Return the model's weights by name without those that `train.fsdp` has split; None if none is split.

    Given these, peft doesn't gather the base's weights to save an adapter.
    """
    weights = model.state_dict()
    whole = {name: weight for name, weight in weights.items() if not isinstance(weight, DTensor)}
    return whole if len(whole) < len(weights) else None


def is_rank0() -> bool:
    """Return whether this process has rank 0, the only rank that writes a run's files and logs."""
    return rank_and_world_size()[0] == 0


def is_sharded() -> bool:
    """Return whether accelerate shards the weights over the ranks (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def barrier() -> None:
    """Wait until all ranks have called this."""
    if rank_and_world_size()[1] > 1:
        dist.barrier(group=_group())


def broadcast_from_rank0(make: Callable[[], Value]) -> Value:
    """Run `make` on rank 0 only, and return its result, which must be picklable, on every rank.

    Raises:
        WorkbenchError: `make` raises it on rank 0; it is raised on every rank. Any other exception is raised
            on rank 0 alone, while the other ranks wait.
    """
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        return make()
    result = [_result_or_error(make) if rank == 0 else None]
    dist.broadcast_object_list(result, src=0, group=_group())
    if isinstance(result[0], WorkbenchError):
        raise result[0]
    return result[0]  # type: ignore[return-value]


def _result_or_error(make: Callable[[], Value]) -> Value | WorkbenchError:
    try:
        return make()
    except WorkbenchError as error:
        return error


def agreed_failure(reason: str) -> str:
    """Return, on every rank, the reason of the lowest failed rank; empty if no rank has failed.

    Every rank must call this, failed or not. A first call with empty reasons, before anything can fail, sets
    up the process group.

    Args:
        reason: Why this rank has failed; empty if it hasn't.

    Raises:
        RuntimeError: Another rank doesn't call this within `PATIENCE_WITH_FAILURE`, for example because it
            waits for this rank in another collective.
    """
    world_size = rank_and_world_size()[1]
    if world_size == 1:
        return reason
    reasons: list[str | None] = [None] * world_size
    dist.all_gather_object(reasons, reason, group=_failure_group())
    return next((text for text in reasons if text), "")


def all_gather_dict(values: dict[str, Value]) -> dict[str, Value]:
    """Return the union of all ranks' dictionaries, on every rank; the highest rank decides a shared key."""
    return {key: value for rank_values in all_gather(values) for key, value in rank_values.items()}


def all_gather(value: Value) -> list[Value]:
    """Return on every rank the list of all ranks' values, in rank order."""
    world_size = rank_and_world_size()[1]
    if world_size == 1:
        return [value]
    values: list[Value | None] = [None] * world_size
    dist.all_gather_object(values, value, group=_group())
    return values  # type: ignore[return-value]


def all_reduce_sum(*numbers: float) -> list[float]:
    """Sum over the ranks, argument by argument; return the sums, one per argument, on every rank."""
    if rank_and_world_size()[1] == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(total, group=_group())
    return total.tolist()


@cache
def _failure_group() -> dist.ProcessGroup:
    """Return the group of `agreed_failure`: a failed rank may have broken off a collective of `_group`."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=PATIENCE_WITH_FAILURE)
    return group


@cache
def _group() -> dist.ProcessGroup:
    """Return the group of all other collectives; gloo, because NCCL can't send objects from CPU memory."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=PATIENCE)
    return group
