"""Finds out from config.json how a model's weights were quantized, and refuses what can't be unpacked."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from workbench.weights.unpacking.awq import Awq
from workbench.weights.unpacking.bitsandbytes import EightBit, FourBit
from workbench.weights.unpacking.gptq import Gptq
from workbench.weights.unpacking.scaled import Packed, Scaled, Scales
from workbench.weights.unpacking.unpacked_rows import Format

BITSANDBYTES = "bitsandbytes"
ACTIVATIONS = (".input_scale", ".output_scale", ".input_zero_point", ".k_scale", ".v_scale")
"""Ends of the names of scales for activations and caches, which stay unquantized here."""
Settings = Mapping[str, Any]
"""Content of `quantization_config` in config.json."""


class UnknownFormatError(Exception):
    """Quantization settings whose weights can't be unpacked; the message names the field and its value."""


def quantized_format(settings: Settings) -> Format:
    """Return how a model with these quantization settings, from its config.json, stores its linear layers.

    Raises:
        UnknownFormatError: The method, or one of its settings, isn't known here.
    """
    method = method_of(settings)
    if method not in METHODS:
        raise UnknownFormatError(f"weights quantized by {method!r} are not supported")
    try:
        return METHODS[method](settings)
    except (TypeError, AttributeError, ValueError) as error:
        raise UnknownFormatError(f"{method}: a setting has the wrong type ({error})") from error


def method_of(settings: Settings) -> str:
    """Return the name of the quantization method, cut to 40 characters; without one, `an unnamed method`."""
    if any(settings.get(f"{key}load_in_{bits}bit") for key in ("", "_") for bits in (4, 8)):
        return str(settings.get("quant_method", BITSANDBYTES))[:40]
    return str(settings.get("quant_method", "an unnamed method"))[:40]


def _only(method: str, settings: Settings, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Check that each field has one of the allowed values; None stands for a missing field.

    Raises:
        UnknownFormatError: A field has another value.
    """
    for name, values in allowed.items():
        value = settings.get(name)
        if not any(value is known or (value == known and type(value) is type(known)) for known in values):
            shown = ", ".join("none" if known is None else str(known) for known in values)
            raise UnknownFormatError(f"{method}: {name}={value!r:.60} can't be unpacked (known: {shown})")


def _group_size(method: str, settings: Settings, name: str) -> int:
    """Return the number of inputs that share a scale; -1: all.

    Raises:
        UnknownFormatError: It isn't such a number.
    """
    size = settings.get(name)
    if type(size) is not int or not (size == -1 or size > 0):
        raise UnknownFormatError(f"{method}: {name}={size!r:.60} can't be unpacked (a number, or -1)")
    return size


def _gptq(settings: Settings) -> Format:
    version = {**settings, "format": settings.get("checkpoint_format") or settings.get("format")}
    allowed: dict[str, tuple[Any, ...]] = {
        "bits": (4, 8),
        "format": (None, "gptq", "gptq_v2"),
        "pack_dtype": (None, "int32"),
        "is_marlin_format": (None, False),
        "rotation": (None,),
    }
    _only("gptq", version, allowed)
    for pattern, changes in dict(settings.get("dynamic") or {}).items():
        if not str(pattern).startswith("-:") and changes:  # -: leaves modules unquantized
            raise UnknownFormatError(f"gptq: dynamic={pattern!r:.40} can't be unpacked")
    return Gptq(
        bits=settings["bits"],
        group_size=_group_size("gptq", settings, "group_size"),
        zeros_plus_one=version["format"] != "gptq_v2",
    )


def _awq(settings: Settings) -> Format:
    named = {
        "bits": settings.get("bits", settings.get("w_bit")),
        "group_size": settings.get("group_size", settings.get("q_group_size")),
        "version": str(settings.get("version", settings.get("format", "gemm"))).lower(),
        "zero_point": settings.get("zero_point", True),
    }
    _only("awq", named, {"bits": (4,), "version": ("gemm",), "zero_point": (True,)})
    return Awq(group_size=_group_size("awq", named, "group_size"))


def _bitsandbytes(settings: Settings) -> Format:
    is_four = settings.get("load_in_4bit") or settings.get("_load_in_4bit")
    return FourBit() if is_four else EightBit()


def _fp8(settings: Settings) -> Format:
    allowed: dict[str, tuple[Any, ...]] = {
        "fmt": (None, "e4m3"),
        "scale_fmt": (None, "float", "ue8m0"),
        "expert_dtype": (None, "fp8"),
    }
    _only("fp8", settings, allowed)
    block = settings.get("weight_block_size")
    is_block = isinstance(block, list) and len(block) == 2 and all(type(n) is int and n > 0 for n in block)
    if block is not None and not is_block:
        raise UnknownFormatError(f"fp8: weight_block_size={block!r:.60} can't be unpacked (two numbers)")
    scales = Scales(rows=block[0], columns=block[1]) if block else Scales(rows=None, columns=None)
    return Scaled(
        method="fp8",
        scales=scales,
        dtype=torch.float8_e4m3fn,
        dropped=(".activation_scale", *ACTIVATIONS),
    )


def _compressed_tensors(settings: Settings) -> Format:
    method = "compressed-tensors"
    groups = [group for group in dict(settings.get("config_groups") or {}).values() if group.get("weights")]
    if not groups:
        raise UnknownFormatError(f"{method}: config_groups names no weights")
    weights = groups[0]["weights"]
    if any(group["weights"] != weights for group in groups):
        raise UnknownFormatError(f"{method}: config_groups with different weights can't be unpacked")
    named = {**settings, "format": groups[0].get("format") or settings.get("format")}
    _only(method, named, {"format": tuple(STORED)})
    for name in ("sparsity_config", "transform_config"):
        if (section := settings.get(name)) and section.get("format", name) != "dense":
            raise UnknownFormatError(f"{method}: {name}={section!r:.60} can't be unpacked")
    dtype = STORED[named["format"]]
    allowed: dict[str, tuple[Any, ...]] = {
        "type": ("float",) if dtype is torch.float8_e4m3fn else ("int",),
        "num_bits": (4, 8) if dtype is None else (8,),
        "strategy": ("tensor", "channel", "group", "block"),
        "dynamic": (None, False),
        "actorder": (None, False, "weight", "group", "static", "dynamic"),
    }
    _only(method, weights, allowed)
    scales = _scales(method, weights)
    if dtype is None:
        return Packed(bits=weights["num_bits"], scales=scales, dropped=ACTIVATIONS)
    if weights.get("actorder") in ("group", "dynamic"):
        raise UnknownFormatError(f"{method}: actorder={weights['actorder']!r} of {named['format']}")
    return Scaled(method=method, scales=scales, dtype=dtype, dropped=ACTIVATIONS)


STORED = {"pack-quantized": None, "int-quantized": torch.int8, "float-quantized": torch.float8_e4m3fn}
"""Format of compressed-tensors -> dtype of its weights; None: packed into words."""


def _scales(method: str, weights: Settings) -> Scales:
    """Return which weights share a scale in compressed-tensors."""
    strategy = weights["strategy"]
    if strategy == "block":
        block = weights.get("block_structure")
        if not isinstance(block, list) or len(block) != 2 or not all(type(n) is int and n > 0 for n in block):
            raise UnknownFormatError(f"{method}: block_structure={block!r:.60} can't be unpacked")
        return Scales(rows=block[0], columns=block[1])
    size = _group_size(method, weights, "group_size") if strategy == "group" else -1
    return Scales(rows=None if strategy == "tensor" else 1, columns=None if size == -1 else size)


METHODS: dict[str, Callable[[Settings], Format]] = {
    BITSANDBYTES: _bitsandbytes,
    "gptq": _gptq,
    "awq": _awq,
    "compressed-tensors": _compressed_tensors,
    "fp8": _fp8,
}
"""Method in config.json -> function that returns the format for its settings."""
