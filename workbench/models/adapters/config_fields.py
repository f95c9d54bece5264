"""The fields of an adapter's configuration, held against the types that peft gives them.

peft takes any value: the text "no" switches a flag on, and a rank that is a text ends in Python's words.
"""

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from workbench.errors import CheckpointError

RANKS = ("r", "init_r", "target_r")
"""Fields of whole numbers, from 1 on where their default is."""
NUMBERS = ("rank_pattern", "alpha_pattern")
"""Fields that map names of layers to numbers, or in AdaLoRA to a list that tells which ranks are left."""
UNSUPPORTED = {
    "alora_invocation_tokens": "an adapter that acts behind certain tokens only, which is not supported",
    "megatron_config": "layers of Megatron, whose code would be imported by name, are not supported",
}
"""Field -> why an adapter that sets it is refused."""
WORDS = {bool: "true or false", int: "a number", float: "a number", str: "a text", dict: "an object"}
"""Type of a field -> what a user writes there."""


def check_fields(described: Mapping[str, Any], file: Path) -> None:
    """Refuse a configuration whose fields have other types than peft documents.

    Args:
        described: the content of adapter_config.json.
        file: adapter_config.json itself.

    Raises:
        CheckpointError: with the field, its value and what can stand there.
    """
    kind = described.get("peft_type")
    if not isinstance(kind, str) or kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise CheckpointError(f"{file}: peft_type: {kind!r:.60} is not a kind of adapter (LORA, LOHA, ...)")
    for name, (annotation, default) in _fields_of(kind).items():
        value = described.get(name)
        if value and name in UNSUPPORTED:
            raise CheckpointError(f"{file}: {name}: {value!r:.60} ({UNSUPPORTED[name]})")
        if name not in described or (value is None and default is None):
            continue
        if not _holds(value, annotation):
            raise CheckpointError(f"{file}: {name}: {value!r:.60} ({_in_words(annotation)})")
        numbers = value.values() if name in NUMBERS and value else ()
        if not all(_is_number(number) or isinstance(number, list) for number in numbers):
            raise CheckpointError(f"{file}: {name}: {value!r:.60} (a number for each layer)")
        if name in RANKS and not (isinstance(value, int) and value >= bool(default)):
            raise CheckpointError(f"{file}: {name}: {value!r:.60} (a whole number from {bool(default):d} on)")


@cache
def _fields_of(kind: str) -> dict[str, tuple[Any, Any]]:
    """Name of each field -> its type and its default."""
    made_by = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]
    annotations = typing.get_type_hints(made_by)
    return {field.name: (annotations[field.name], field.default) for field in fields(made_by) if field.init}


def _holds(value: Any, annotation: Any) -> bool:
    """Whether a value that was read from JSON is of a type; of types that JSON doesn't have, any value is."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_holds(value, choice) for choice in inner)
    if origin is Literal:  # peft's lists leave out what stands for a number, such as pissa_niter_16
        return isinstance(value, type(inner[0]))
    if origin is list:
        return isinstance(value, list) and all(_holds(item, inner[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(inner) and all(map(_holds, value, inner))
    if origin is dict:
        return isinstance(value, dict) and all(_holds(item, inner[1]) for item in value.values())
    if annotation in (int, float):  # an alpha of 22.6 is in a field of whole numbers
        return _is_number(value)
    if annotation in (bool, str, dict, type(None)):
        return isinstance(value, annotation)
    return isinstance(value, str | dict) or value is None  # an enumeration, or settings of their own


def _is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _in_words(annotation: Any) -> str:
    """What can stand in a field of a type."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(choice) for choice in inner if choice is not type(None))
    if origin is Literal:
        return ", ".join(map(repr, inner))
    if origin in (list, tuple):
        return "a list"
    return WORDS.get(origin or annotation, "an object")
