"""Converts plain Python values to sections of the configuration, and refuses unknown names and values."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from enum import EnumType
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from workbench.errors import ConfigError

Section = TypeVar("Section")
Folder = str | Path

EXPECTED = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}


def section(schema: type[Section], values: Any, key: str) -> Section:
    """Return a section of the configuration, made from plain values.

    Args:
        schema: The section's dataclass.
        values: Field -> value, with enum options by name or as members; or an object of the schema with such
            values, which is not changed.
        key: Name of the section in error messages.

    Raises:
        ConfigError: A field is unknown or missing, has a value of another type, or is refused by the schema.
    """
    settings: Mapping[str, Any] = values if isinstance(values, Mapping) else vars(values)
    types = get_type_hints(schema)
    for name in settings:
        check_known(name, types, key)
    for field in fields(schema):  # type: ignore[arg-type]
        if field.name not in settings and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{key}.{field.name}: not given")
    return schema(**{name: _convert(value, types[name], f"{key}.{name}") for name, value in settings.items()})


def route(
    settings: Mapping[str, Any], schemas: Mapping[str, type], where: str, without: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Sort settings into sections; return section -> {field: value}, with {} for a section that gets none.

    A setting belongs to the first section with a field of its name.

    Args:
        settings: Field -> value.
        schemas: Section -> dataclass, in the order of search.
        where: Name in error messages of the function that got the settings.
        without: Fields that are refused as unknown.

    Raises:
        ConfigError: No section has a field of this name.
    """
    by_section: dict[str, dict[str, Any]] = {name: {} for name in schemas}
    owners = {field.name: name for name in reversed(list(schemas)) for field in fields(schemas[name])}
    for name, value in settings.items():
        check_known(name, owners.keys() - set(without), where)
        by_section[owners[name]][name] = value
    return by_section


def output_folder(path: Folder, overwrite: bool) -> Path:
    """Return a folder to write to as a Path; nothing is created or deleted here.

    Raises:
        ConfigError: `overwrite` is false, and there is a file or a folder with contents at the path.
    """
    folder = Path(path)
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"output: {str(folder)!r} is not empty (overwrite=True, or another folder)")
    return folder


def check_known(name: str, known: Iterable[str], where: str, kind: str = "setting") -> None:
    """Check that a name is one of the `known` names.

    Args:
        name: Name to check.
        known: The allowed names.
        where: Start of the error message.
        kind: What the name names, in the error message.

    Raises:
        ConfigError: The name is unknown; the message has similar names, or else all known ones.
    """
    names = sorted(known)
    if name not in names:
        close = get_close_matches(name, names, 3)
        way_out = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
        raise ConfigError(f"{where}: no {kind} {name!r} ({way_out})")


def _convert(value: Any, kind: Any, key: str) -> Any:
    """Convert a value to the declared type of its field: an option's name to the enum's member, and so on.

    Raises:
        ConfigError: The value has another type, or is not an option of the enum.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None:
            return None
        [inner] = [argument for argument in arguments if argument is not NoneType]
        return _convert(value, inner, key)
    if isinstance(kind, EnumType):
        return _option(value, kind, key)
    if origin is list:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}: {value!r} is not a list (as in [{value!r}])")
        return [_convert(entry, arguments[0], key) for entry in value]
    if origin is dict or is_dataclass(kind):
        if not isinstance(value, Mapping | kind if origin is None else Mapping):
            raise ConfigError(f"{key}: {value!r} is not a mapping of names to values")
        if origin is None:
            return section(kind, value, key)
        return {str(name): _convert(inner, arguments[1], f"{key}.{name}") for name, inner in value.items()}
    return value if kind is Any else _scalar(value, kind, key)


def _option(value: Any, enum: EnumType, key: str) -> Any:
    """Return the member of an enum, given the member or its name.

    Raises:
        ConfigError: The enum has no such member.
    """
    if isinstance(value, enum):
        return value
    if not isinstance(value, str) or value not in enum.__members__:
        raise ConfigError(f"{key}: {value!r} (known: {', '.join(enum.__members__)})")
    return enum.__members__[value]


def _scalar(value: Any, kind: type, key: str) -> Any:
    is_bool = isinstance(value, bool)
    if kind is bool and is_bool:
        return value
    if kind is int and isinstance(value, Integral) and not is_bool:
        return int(value)
    if kind is float and isinstance(value, Real) and not is_bool:
        return float(value)
    if kind is str and isinstance(value, str | os.PathLike | int | float) and not is_bool:
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    raise ConfigError(f"{key}: {value!r} is not {EXPECTED[kind]}")
