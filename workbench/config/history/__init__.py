"""Keeps runs of earlier program versions valid although fields and defaults have changed since.

Names of runs, fingerprints of steps and keys of caches are hashes of configuration values. So that a new key
doesn't change the hashes of earlier runs, its value is left out where it gives the behaviour that the program
had before the key existed.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, get_args, get_origin, get_type_hints

from workbench.config.data import Template
from workbench.config.history.first_version import FIRST_FIELDS, REMOVED_FIELDS
from workbench.errors import ConfigError

CONFIG_VERSION = 2
"""Version of the configurations that this code writes; a config.yaml without a version has version 1."""


FORMER_ENUMS = {("DataConfig", "template"): Template, ("SourceConfig", "template"): Template}
"""(Dataclass, field) -> enum that the field had in version 1; fingerprints use the enum's options."""

Treat = Callable[[Mapping[str, Any], type, str], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ChangedDefault:
    """A key whose default has changed, with its former default.

    If the earlier version lacked the key, the former default is the value that gives its behaviour.
    """

    version: int
    """The first configuration version with today's default."""
    key: str
    """Dotted key; `*` stands for a name that the user chose, such as a benchmark's."""
    old: Any
    """Former default as in YAML: an enum option by its name."""


CHANGED_DEFAULTS: tuple[ChangedDefault, ...] = (
    ChangedDefault(version=2, key="data.validation_fraction", old=0.0),
    ChangedDefault(version=2, key="benchmarks.*.sample", old="first"),
)
"""Every default that has changed since version 1."""


def hashed(value: Any, key: str) -> dict[str, Any]:
    """Return the values of a section that go into a fingerprint, so that earlier runs keep theirs.

    A field that version 1 didn't have is omitted if its value gives the behaviour of version 1. A field of
    version 1 that is a constant today is included with that value.

    Args:
        value: A section, or another dataclass of `FIRST_FIELDS`.
        key: Its dotted key, with `*` for a name that the user chose; "" if it has no key.
    """
    return _without_later(asdict(value), type(value), key, named=False)


def identity_values(
    values: Mapping[str, Any], schema: type, key: str, *, as_written: bool = False
) -> dict[str, Any]:
    """Return the values of a section that are hashed into a run's name, as version 1 would have named them.

    Keys that YAML doesn't set remain unset. A key that version 1 lacked is left out if it has its default; a
    key whose default has changed gets the former default if it has the present one; a key that is a constant
    today is added.

    Args:
        values: The section as in YAML.
        schema: Its dataclass.
        key: Its dotted key.
        as_written: Whether a former default in `values` is returned as it is; else as {"given": value}, so
            that the user's choice of it has another hash than the default.
    """
    return _without_later(values, schema, key, named=True, as_written=as_written)


def completed(values: Mapping[str, Any], schema: type, key: str, version: int) -> dict[str, Any]:
    """Return an earlier version's section plus the keys that it lacks, with values that keep its behaviour.

    A key that is a constant today is removed if it has this value.

    Args:
        values: The section as in config.yaml.
        schema: Its present dataclass.
        key: Its dotted key.
        version: Version of the configuration in config.yaml.
    """
    removed = REMOVED_FIELDS.get(schema.__name__, {})
    filled = {name: value for name, value in values.items() if name not in removed or value != removed[name]}
    for field in fields(schema):
        path = _joined(key, field.name)
        if field.name not in filled:
            changed = changed_default(path)
            is_older = changed is not None and changed.version > version
            filled[field.name] = changed.old if changed is not None and is_older else _default(field)
        else:
            filled[field.name] = _map_sections(
                filled[field.name], schema, field.name, path, partial(completed, version=version)
            )
    return {name: value for name, value in filled.items() if value is not MISSING}


@cache
def changed_default(key: str) -> ChangedDefault | None:
    """Return the entry of `CHANGED_DEFAULTS` for a dotted key; None: its default never changed."""
    words = key.split(".")
    for changed in CHANGED_DEFAULTS:
        pattern = changed.key.split(".")
        if len(pattern) == len(words) and all(
            a in ("*", b) or b == "*" for a, b in zip(pattern, words, strict=True)
        ):
            return changed
    return None


def kept_defaults(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], schema: type, version: int, key: str = ""
) -> dict[str, Any]:
    """Return the former defaults that stay in force when a command continues a run of an earlier version.

    They are those of the keys that have the former default in the run and the present one in the command.

    Args:
        ours: A section, or the root of the new configuration, as in YAML.
        theirs: The same of the earlier run, completed.
        schema: Its dataclass.
        version: Version of the earlier run's configuration.
        key: Dotted key of the section.

    Returns:
        The earlier run's values by dotted key.
    """
    values: dict[str, Any] = {}
    for field in fields(schema):
        if field.name not in ours or field.name not in theirs:
            continue
        path, our_value, their_value = _joined(key, field.name), ours[field.name], theirs[field.name]
        container, inner = _inner(schema, field.name)
        changed = changed_default(path)
        if changed is not None and changed.version > version:
            if our_value == _default(field) and their_value == changed.old:
                values[path] = their_value
        elif inner is not None and isinstance(our_value, Mapping) and isinstance(their_value, Mapping):
            pairs = {path: (our_value, their_value)}
            if container is dict:
                common = [name for name in our_value if name in their_value]
                pairs = {f"{path}.{name}": (our_value[name], their_value[name]) for name in common}
            for inner_key, (our_section, their_section) in pairs.items():
                values |= kept_defaults(our_section, their_section, inner, version, inner_key)
    return values


def signed(text: str) -> str:
    """Return the text of a config.yaml with a last line added: version and SHA-256 as a YAML comment."""
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return f"{text}# configuration version {CONFIG_VERSION}, sha256 of the lines above: {digest}\n"


def version_of(text: str, where: str) -> int:
    """Return the version in the last line of a config.yaml, a comment; 1 if the last line is not a comment.

    Args:
        text: Text of the file.
        where: Path of the file, for messages.

    Raises:
        ConfigError: The text doesn't match its checksum, or a later version wrote it.
    """
    *lines, last = text.removesuffix("\n").split("\n")
    if not last.startswith("#"):
        return 1
    content = "".join(f"{line}\n" for line in lines)
    words = last.split()
    version = int(words[3].rstrip(",")) if len(words) > 3 and words[3].rstrip(",").isdecimal() else 0
    if version > CONFIG_VERSION:
        raise ConfigError(f"{where}: written by a later version of this program (install that one)")
    digest = hashlib.sha256(content.encode("utf-8")).hexdigest()
    if words[-1] != digest:
        raise ConfigError(
            f"{where}: was changed since the run wrote it (undo the change, or choose another run_dir)"
        )
    return version


def changed_values(section: Any) -> dict[str, Any]:
    """Return the fields of a section that differ from its defaults, as YAML has them; see `completed`."""
    values = {field.name: getattr(section, field.name) for field in fields(section)}
    return {
        field.name: _changed(values[field.name])
        for field in fields(section)
        if _plain(values[field.name]) != _default(field)
    }


def _changed(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return changed_values(value)
    return (
        {name: _changed(inner) for name, inner in value.items()} if isinstance(value, dict) else _plain(value)
    )


def _without_later(
    values: Mapping[str, Any], schema: type, key: str, *, named: bool, as_written: bool = False
) -> dict[str, Any]:
    """Return a section's values as version 1 would have written them, to be hashed.

    Fields removed since are added. A newer field is left out if it has its default or, in a fingerprint
    (`named` false), the value that gives the behaviour of version 1. In a run's name (`named`), a present
    default becomes the former default; a former default that the user sets becomes {"given": value}, which
    tells the two apart, unless `as_written`.
    """
    first = FIRST_FIELDS.get(schema.__name__, frozenset())
    treat = partial(_without_later, named=named, as_written=as_written)
    result: dict[str, Any] = dict(REMOVED_FIELDS.get(schema.__name__, {}))
    for field in fields(schema):
        if field.name not in values:
            continue
        value, path = values[field.name], _joined(key, field.name)
        changed, default = changed_default(path), _default(field)
        if field.name not in first:
            unchanged = default if named or changed is None else changed.old
            if _plain(value) == unchanged:
                continue
        elif named and changed is not None and _plain(value) == default:
            value = changed.old
        elif named and changed is not None and _plain(value) == changed.old and not as_written:
            value = {"given": changed.old}
        former = FORMER_ENUMS.get((schema.__name__, field.name))
        if former is not None and not named and value in former.__members__:
            value = former[value]
        result[field.name] = _map_sections(value, schema, field.name, path, treat)
    return result


def _map_sections(value: Any, schema: type, name: str, key: str, treat: Treat) -> Any:
    """Apply `treat` to a field's value that is a section, or to each section of a list or mapping.

    Any other value is returned unchanged.
    """
    kind, inner = _inner(schema, name)
    if inner is None:
        return value
    if kind is dict and isinstance(value, Mapping):
        sections = {name: (section, f"{key}.{name}") for name, section in value.items()}
        return {
            name: treat(section, inner, path) if isinstance(section, Mapping) else section
            for name, (section, path) in sections.items()
        }
    if kind in (list, tuple) and isinstance(value, list | tuple):
        return [treat(section, inner, key) if isinstance(section, Mapping) else section for section in value]
    return treat(value, inner, key) if isinstance(value, Mapping) else value


@cache
def _hints(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


@cache
def _inner(schema: type, name: str) -> tuple[type | None, type | None]:
    """Return a field's container (dict, list, tuple, None) and the dataclass in it (None: plain values)."""
    hint = _hints(schema)[name]
    container = get_origin(hint) if get_origin(hint) in (dict, list, tuple) else None
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return container, candidate
    return None, None


def _default(field: "Field[Any]") -> Any:
    if field.default is not MISSING:
        return _plain(field.default)
    if field.default_factory is not MISSING:
        return _plain(field.default_factory())
    return MISSING


def _plain(value: Any) -> Any:
    """Return a value as YAML has it: enum options by name, dataclasses as mappings."""
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
