"""Checks the types of the fields in an adapter's configuration.

peft accepts any value: the text "no" counts as true, and a rank that is a text raises Python's own error.
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
"""Integer fields that must be at least 1, or at least 0 if the default is 0."""
NUMBERS = ("rank_pattern", "alpha_pattern")
"""Fields that map layers to numbers; in AdaLoRA, to lists of the remaining ranks."""
UNSUPPORTED = {
    "alora_invocation_tokens": "adapters that are active only after certain tokens are not supported",
    "megatron_config": "layers of Megatron, whose code would be imported by name, are not supported",
}
"""Field -> reason why an adapter that sets the field is refused."""
TYPE_NAMES = {bool: "true or false", int: "a number", float: "a number", str: "a text", dict: "an object"}
"""Type of a field -> its name in messages."""


def check_fields(description: Mapping[str, Any], file: Path) -> None:
    """Check that the fields of adapter_config.json have the types that peft documents, and are supported.

    Args:
        description: Content of adapter_config.json.
        file: Path of adapter_config.json.

    Raises:
        CheckpointError: `peft_type` is unknown, a value is wrong, or a field isn't supported; the message
            names the field and its value.
    """
    peft_type = description.get("peft_type")
    if not isinstance(peft_type, str) or peft_type not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise CheckpointError(
            f"{file}: peft_type: {peft_type!r:.60} is not an adapter type (LORA, LOHA, ...)"
        )
    for name, spec in fields_of(peft_type).items():
        value = description.get(name)
        if value and name in UNSUPPORTED:
            raise CheckpointError(f"{file}: {name}: {value!r:.60} ({UNSUPPORTED[name]})")
        if name in description and (problem := problem_of(name, value, spec)):
            raise CheckpointError(f"{file}: {problem}")


def problem_of(name: str, value: Any, spec: tuple[Any, Any], *, strict: bool = False) -> str | None:
    """Return why a field can't have this value, as `name: value (allowed type)`; None if it can.

    Args:
        name: Name of the field.
        value: Value of the field.
        spec: Type and default of the field, from `fields_of`.
        strict: Whether a text must be one of the texts that peft lists for the field.
    """
    annotation, default = spec
    if value is None and default is None:
        return None
    if not _has_type(value, annotation) or (strict and not _is_listed(value, annotation)):
        return f"{name}: {value!r:.60} ({_type_name(annotation)})"
    numbers = value.values() if name in NUMBERS and value else ()
    if not all(_is_number(number) or isinstance(number, list) for number in numbers):
        return f"{name}: {value!r:.60} (a number for each layer)"
    if name in RANKS and not (isinstance(value, int) and value >= bool(default)):
        return f"{name}: {value!r:.60} (an integer from {bool(default):d} on)"
    if "dropout" in name and not 0 <= value < 1:
        return f"{name}: {value!r:.60} (from 0 to below 1)"
    return None


@cache
def fields_of(peft_type: str) -> dict[str, tuple[Any, Any]]:
    """Return field -> (type annotation, default) of the configuration class of a known peft type, as LORA.

    The result is cached, so callers must not change it.
    """
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)]
    annotations = typing.get_type_hints(config_class)
    return {
        field.name: (annotations[field.name], field.default) for field in fields(config_class) if field.init
    }


def _has_type(value: Any, annotation: Any) -> bool:
    """Return whether a JSON value has the annotated type.

    For a type that JSON doesn't have, such as an enumeration, texts and objects are accepted.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_has_type(value, choice) for choice in inner)
    if origin is Literal:  # peft's lists don't have names with a number, such as pissa_niter_16
        return isinstance(value, type(inner[0]))
    if origin is list:
        return isinstance(value, list) and all(_has_type(item, inner[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(inner) and all(map(_has_type, value, inner))
    if origin is dict:
        return isinstance(value, dict) and all(_has_type(item, inner[1]) for item in value.values())
    if annotation in (int, float):  # alpha, an int field, may be 22.6
        return _is_number(value)
    if annotation in (bool, str, dict, type(None)):
        return isinstance(value, annotation)
    return isinstance(value, str | dict) or value is None  # an enumeration, or nested settings


def _is_listed(value: Any, annotation: Any) -> bool:
    """Return whether a text is one of the field's Literal values; True for a field without such values."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return value in inner
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return any(_has_type(value, choice) and _is_listed(value, choice) for choice in inner)
    return True


def _is_number(value: Any) -> bool:
    """Return whether a value is a number within the range of floats."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _type_name(annotation: Any) -> str:
    """Return the name of a type in messages."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(choice) for choice in inner if choice is not type(None))
    if origin is Literal:
        return ", ".join(map(repr, inner))
    if origin in (list, tuple):
        return "a list"
    return TYPE_NAMES.get(origin or annotation, "an object")
