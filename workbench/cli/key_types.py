"""Looks up the types of configuration keys in the schema."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from workbench.cli.unknown_keys import known_keys
from workbench.config import Config
from workbench.config.data import Template
from workbench.shipped import shipped

Kind = Enum("Kind", {"text": "text", "texts": "texts", "section": "section", "other": "other"})
"""Kinds of declared types: str (text), lists and mappings of str (texts), dataclass (section), all others."""


def kind_of(key: str) -> Kind | None:
    """Return what kind of value a dotted key takes; None: there is no such key."""
    declared = declared_type(key)
    if declared is None:
        return None
    if declared is str:
        return Kind.text
    if is_dataclass(declared):
        return Kind.section
    return Kind.texts if leaves(declared) == {str} else Kind.other


def declared_type(key: str) -> Any:
    """Return the declared type of a dotted key, without `| None`; None: there is no such key."""
    current: Any = Config
    for word in key.split("."):
        if is_dataclass(current):
            current = without_none(get_type_hints(current).get(word))
        elif get_origin(current) is dict and word:
            current = without_none(get_args(current)[1])
        else:
            return None
    return current


def without_none(declared: Any) -> Any:
    """Return a type without `| None`."""
    if get_origin(declared) in (Union, UnionType):
        (declared,) = (argument for argument in get_args(declared) if argument is not NoneType)
    return declared


def leaves(declared: Any) -> set[Any]:
    """Return the innermost types of a declared type: {str} for `dict[str, list[str]]`."""
    if get_origin(declared) is list:
        return leaves(get_args(declared)[0])
    return leaves(get_args(declared)[1]) if get_origin(declared) is dict else {declared}


def is_list(key: str) -> bool:
    """Return whether the declared type of a dotted key is a list."""
    return get_origin(declared_type(key)) is list


def choices(key: str) -> list[str]:
    """Return the options of an enum key or of a `template` key of the data section; empty for other keys."""
    declared = declared_type(key)
    if declared is str and key.startswith("data.") and key.endswith(".template"):
        declared = Template
    return list(declared.__members__) if isinstance(declared, type) and issubclass(declared, Enum) else []


@cache
def groups() -> frozenset[str]:
    """Return the groups of conf/config.yaml, whose options are YAML files: model, recipe, ..."""
    defaults = yaml.safe_load((shipped("conf") / "config.yaml").read_text("utf-8"))["defaults"]
    chosen = (entry for entry in defaults if isinstance(entry, dict))
    return frozenset(group for entry in chosen for group in entry if not group.startswith("override "))


def all_keys() -> Iterator[str]:
    """Yield every dotted key, with NAME for names that the user chooses, then the name of every group."""
    yield from (key for key, _ in known_keys())
    yield from sorted(groups())
