"""Checks the rotary parameters of a configuration."""

import math
from typing import TypeGuard

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

ROPE_TYPES = ("default", *sorted(ROPE_INIT_FUNCTIONS))
"""Names of all rope types of transformers."""


def check_rope(rope: object) -> None:
    """Check rotary parameters: the value of `rope_scaling` or `rope_parameters` in config.json.

    Raises:
        ValueError: It isn't a dictionary, or a type, factor or key in it is invalid.
    """
    if not isinstance(rope, dict) or not rope:
        raise ValueError(
            f"config.json: rope_scaling must be a dictionary with the keys type and factor, got {rope!r}"
        )
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type not in ROPE_TYPES or rope.get("type", rope_type) != rope_type:
        raise ValueError(
            f"config.json: rope_scaling has an unknown type {rope_type!r} (known: {', '.join(ROPE_TYPES)})"
        )
    if rope.get("partial_rotary_factor") not in (None, 1, 1.0) and rope_type != "proportional":
        raise ValueError("config.json: Open-Llama doesn't support partial_rotary_factor (only 1.0)")
    if layers := [name for name, value in rope.items() if isinstance(value, dict)]:
        raise ValueError(
            f"config.json: rope_parameters of {layers[0]} alone are not supported (only for all layers)"
        )
    factor = rope.get("factor")
    if rope_type in ("linear", "dynamic") and not (_is_finite_above(factor, 0) and factor >= 1):
        raise ValueError(
            f"config.json: rope_scaling's factor must be a finite number of 1 or more, got {factor!r}"
        )
    for name in ("rope_theta", "factor"):
        if rope.get(name) is not None and not _is_finite_above(rope[name], 0):
            raise ValueError(f"config.json: {name} must be a finite number above 0, got {rope[name]!r}")
    known = {"type", "rope_type", "rope_theta", "factor", "partial_rotary_factor"}
    if rope_type in ("linear", "dynamic") and (extra := sorted(set(rope) - known)):
        raise ValueError(f"config.json: rope_scaling of type {rope_type} has no key {', '.join(extra)}")


def _is_finite_above(value: object, least: float) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and least < value < math.inf
