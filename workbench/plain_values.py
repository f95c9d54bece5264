"""Plain values become sections of the configuration; a wrong name or value is refused with the known ones."""

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
    """A section of the configuration.

    Args:
        schema: Its dataclass.
        values: Mapping of fields to plain values, or a section whose enums may still be texts.
        key: The name of the section in errors.

    Raises:
        ConfigError: An unknown field, a missing one, or a value that the field doesn't take.
    """
    given: Mapping[str, Any] = values if isinstance(values, Mapping) else vars(values)
    kinds = get_type_hints(schema)
    for name in given:
        check_known(name, kinds, key)
    for field in fields(schema):  # type: ignore[arg-type]
        if field.name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{key}.{field.name}: not given")
    return schema(**{name: _converted(value, kinds[name], f"{key}.{name}") for name, value in given.items()})


def route(
    settings: Mapping[str, Any], schemas: Mapping[str, type], where: str, without: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Assign each setting to the first section that has a field of its name.

    Args:
        settings: By field.
        schemas: Name -> dataclass of each section.
        where: The name of the function in errors.
        without: Fields that are not to be set.

    Raises:
        ConfigError: No section has such a field.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in schemas}
    owners = {field.name: name for name in reversed(list(schemas)) for field in fields(schemas[name])}
    for name, value in settings.items():
        check_known(name, owners.keys() - set(without), where)
        found[owners[name]][name] = value
    return found


def check_known(name: str, known: Iterable[str], where: str) -> None:
    """Refuse a name that is none of the known ones.

    Raises:
        ConfigError: With the names that are like it, or else with all.
    """
    names = sorted(known)
    if name not in names:
        close = get_close_matches(name, names, 3)
        way_out = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
        raise ConfigError(f"{where}: no setting {name!r} ({way_out})")


def _converted(value: Any, kind: Any, key: str) -> Any:
    """The value as a field of this type holds it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None:
            return None
        [inner] = [argument for argument in arguments if argument is not NoneType]
        return _converted(value, inner, key)
    if isinstance(kind, EnumType):
        return _option(value, kind, key)
    if origin is list:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}: {value!r} (a list, as in [{value!r}])")
        return [_converted(entry, arguments[0], key) for entry in value]
    if origin is dict or is_dataclass(kind):
        if not isinstance(value, Mapping | kind if origin is None else Mapping):
            raise ConfigError(f"{key}: {value!r} (a mapping of names to values)")
        if origin is None:
            return section(kind, value, key)
        return {str(name): _converted(inner, arguments[1], f"{key}.{name}") for name, inner in value.items()}
    return value if kind is Any else _scalar(value, kind, key)


def _option(value: Any, enum: EnumType, key: str) -> Any:
    """The member of an enum that a text names; a member names itself."""
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
    raise ConfigError(f"{key}: {value!r} ({EXPECTED[kind]})")
