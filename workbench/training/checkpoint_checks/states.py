"""Checks the pickles in a checkpoint: optimizer moments, learning rates, random states."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.trainer_pt_utils import safe_globals

from workbench.training.checkpoint_checks.history import is_number
from workbench.weights.pickles import read_pickle

OPTIMIZER, SCHEDULER, SCALER = "optimizer.pt", "scheduler.pt", "scaler.pt"

GENERATORS: dict[str, Callable[[Any], Any]] = {
    "python": lambda state: random.Random().setstate(state),
    "numpy": lambda state: np.random.RandomState().set_state(state),
    "cpu": lambda state: torch.Generator().set_state(state),
}
"""Part of a random state -> a function that raises an error if the part isn't valid.

It loads the part into a new generator, so that the process's random state doesn't change.
"""

FIXED = ("params", "weight_decay", "betas", "eps")
"""Settings of a parameter group that are the same in all steps."""

BITSANDBYTES = "__bnb_optimizer_quant_state__"
"""Key of the state of one weight in bitsandbytes' optimizers (bitsandbytes/optim/optimizer.py)."""

RATES = ("lr", "initial_lr")
"""Settings with a learning rate: at the last step, and the peak."""

SCALES = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
"""Fields in the state of a float16 loss scaler."""


@dataclass(frozen=True)
class Untrained:
    """What a checkpoint is compared with, from before the first step.

    Shapes of the trained weights, the optimizer's parameter groups, and the scheduler as an object.
    """

    shapes: list[torch.Size]
    """Shapes of the trained weights, in the optimizer's order."""
    groups: list[dict[str, Any]]
    """The optimizer's parameter groups, without the weights."""
    num_moments: int
    """Number of moments that the optimizer keeps of each weight."""
    scheduler: Any
    """The learning rate scheduler itself, before its first step."""


def optimizer_problems(folder: Path, untrained: Untrained) -> Iterator[str]:
    """Yield what is wrong with the optimizer of the checkpoint `folder`: its moments and learning rates.

    Raises:
        CheckpointError: The pickle is damaged, or contains code.
    """
    saved = read_pickle(folder / OPTIMIZER)
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict):
        yield f"{OPTIMIZER} is not the state of an optimizer"
        return
    groups, expected = saved.get("param_groups"), untrained.groups
    if not isinstance(groups, list) or len(groups) != len(expected):
        yield f"{OPTIMIZER}: param_groups is {groups!r:.40} (expected a list of {len(expected)})"
        return
    for index, group in enumerate(groups):
        yield from _group_problems(f"{OPTIMIZER}: param_groups[{index}]", group, expected[index])
    for index, moments in saved["state"].items():
        if not isinstance(index, int) or not 0 <= index < len(untrained.shapes):
            yield f"{OPTIMIZER}: parameter {index!r:.40} does not exist (there are {len(untrained.shapes)})"
            return
        where = f"{OPTIMIZER}: parameter {index}"
        yield from _moment_problems(where, moments, untrained.shapes[index], untrained.num_moments)


def _group_problems(where: str, group: Any, expected: Mapping[str, Any]) -> Iterator[str]:
    """Yield the unexpected settings of one parameter group of the optimizer; `where` names the group."""
    if not isinstance(group, dict):
        yield f"{where} is {group!r:.40} (expected a dictionary)"
        return
    for key in FIXED:
        if not _is_same(group.get(key), expected[key]):
            yield f"{where}: {key} is {group.get(key)!r:.40} (expected {expected[key]!r:.40})"
    for key in RATES:
        if not _is_rate(group.get(key), expected["initial_lr"]):
            yield f"{where}: {key} is {group.get(key)!r:.40} (expected 0 to {expected['initial_lr']:g})"
    for key in sorted(expected.keys() - {*FIXED, *RATES}):
        value = group.get(key)
        if not isinstance(value, bool | None) and not _is_same(value, expected[key]):
            yield f"{where}: {key} is {group[key]!r:.40} (expected true, false or null)"


def _moment_problems(where: str, moments: Any, shape: torch.Size, num_moments: int) -> Iterator[str]:
    """Yield the problems of the moments and step count of one weight of this shape.

    `where` names the weight in messages. PyTorch's AdamW has two moments; `num_moments` are bitsandbytes'.
    """
    if not isinstance(moments, dict):
        yield f"{where} is {moments!r:.40} (expected a dictionary)"
        return
    wrapped = moments.get(BITSANDBYTES)
    if isinstance(wrapped, dict):
        yield from _bitsandbytes_problems(where, wrapped, shape, num_moments)
    else:
        for key in ("exp_avg", "exp_avg_sq"):
            yield from _tensor_problems(f"{where}: {key}", moments.get(key), shape)
    step = moments.get("step")
    count: Any = step.item() if isinstance(step, Tensor) and step.numel() == 1 else step
    if not is_number(count) or count < 0:
        yield f"{where}: step is {step!r:.40} (expected a step count)"


def _bitsandbytes_problems(
    where: str, state: Mapping[Any, Any], shape: torch.Size, num_moments: int
) -> Iterator[str]:
    """Yield the problems of the state that bitsandbytes' optimizers keep of one weight of this shape.

    Moment N is `stateN`: in 32 bits; or in 8, of which `qmapN` has the values, and `absmaxN` the scales.
    """
    numbers = range(1, num_moments + 1)
    needed = {f"state{number}" for number in numbers}
    needed |= {f"absmax{number}" for number in numbers if f"qmap{number}" in state}
    for key in sorted({*map(str, state), *needed}):
        if key.startswith("state"):
            kind = torch.uint8 if f"qmap{key[-1]}" in state else torch.float32
            yield from _tensor_problems(f"{where}: {key}", state.get(key), shape, kind)
        elif key.startswith("qmap"):
            yield from _tensor_problems(f"{where}: {key}", state.get(key), torch.Size([256]))
        elif key.startswith("absmax"):
            yield from _tensor_problems(
                f"{where}: {key}", state.get(key), torch.Size([-(-shape.numel() // 256)])
            )
        else:
            yield f"{where}: {key!r:.40} is not part of an optimizer's state"


def _tensor_problems(
    where: str, value: Any, shape: torch.Size, dtype: torch.dtype | None = None
) -> Iterator[str]:
    """Yield what keeps a value from being a tensor of this shape and dtype (None: any with a point)."""
    if type(value) is not Tensor or value.layout is not torch.strided:
        yield f"{where} is {value!r:.40} (expected a tensor)"
    elif value.shape != shape or (value.dtype != dtype if dtype else not value.is_floating_point()):
        kind = "floats" if dtype is None or dtype.is_floating_point else "bytes"
        yield f"{where} is {describe(value)} (expected {kind} of shape {list(shape)})"


def scheduler_problems(folder: Path, untrained: Untrained, step: int) -> Iterator[str]:
    """Yield what is wrong with the learning rate scheduler's state after `step` steps.

    Callers must stop at the first problem: later checks rely on earlier ones.

    Raises:
        CheckpointError: The pickle is damaged, or contains code.
    """
    saved, expected = read_pickle(folder / SCHEDULER), untrained.scheduler.state_dict()
    if not isinstance(saved, dict) or not all(isinstance(key, str) for key in saved):
        yield f"{SCHEDULER} is not the state of a scheduler"
        return
    for key, value in saved.items():
        # A scheduler sets all of these as attributes, and so could replace its methods.
        if key not in expected and hasattr(untrained.scheduler, key):
            yield f"{SCHEDULER}: {key!r:.40} is not part of a scheduler's state"
        elif key in expected and type(value) is not type(expected[key]):
            yield f"{SCHEDULER}: {key} is {value!r:.40} (expected a {type(expected[key]).__name__})"
    for key in ("base_lrs", "lr_lambdas"):
        if not _is_same(saved.get(key), expected[key]):
            yield f"{SCHEDULER}: {key} is {saved.get(key)!r:.60} (expected {expected[key]!r:.60})"
    rates, peaks, last = saved.get("_last_lr"), expected["base_lrs"], saved.get("last_epoch")
    if rates is None or len(rates) != len(peaks) or not all(map(_is_rate, rates, peaks)):
        yield f"{SCHEDULER}: _last_lr is {rates!r:.60} (expected {len(peaks)} rates up to {max(peaks):g})"
    if last is None or not 0 <= last <= step:
        yield f"{SCHEDULER}: last_epoch is {last!r:.40} (expected 0 to {step})"


def random_problems(folder: Path, name: str) -> Iterator[str]:
    """Yield a problem for each of GENERATORS whose state is missing or not valid in a checkpoint's file.

    Each rank has a file, here `name`. The state of CUDA's generators isn't checked. The random state of the
    process doesn't change.

    Raises:
        CheckpointError: The pickle is damaged, or contains code.
    """
    with safe_globals():  # type: ignore[no-untyped-call]
        saved = read_pickle(folder / name)
    for key, load in GENERATORS.items():
        try:
            load(saved[key])
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            yield f"{name}: {key!r} is not the state of a random number generator"


def scaler_problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the state of the float16 loss scaler in the checkpoint `folder`.

    Raises:
        CheckpointError: The pickle is damaged, or contains code.
    """
    saved = read_pickle(folder / SCALER)
    if not isinstance(saved, dict) or not all(is_number(saved.get(key)) for key in SCALES):
        yield f"{SCALER} is not the state of a loss scaler"


def describe(tensor: Tensor) -> str:
    """Return a tensor's shape and dtype, for a message."""
    return f"{list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _is_rate(value: Any, peak: float) -> bool:
    """Return whether a value is a learning rate: a number from 0 to `peak`."""
    return is_number(value) and 0 <= value <= peak


def _is_same(value: Any, expected: Any) -> bool:
    """Return whether a value has the expected type and equals it; a list may stand for a tuple."""
    if isinstance(expected, list | tuple):
        has_same_length = isinstance(value, list | tuple) and len(value) == len(expected)
        return has_same_length and all(map(_is_same, value, expected))
    return type(value) is type(expected) and bool(value == expected)
