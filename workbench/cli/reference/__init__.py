"""Builds the reference of all configuration keys from the docstrings of workbench/config.

`python -m workbench --keys [SECTION]` prints it; workbench.cli.reference.page writes it into conf/README.md.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from workbench.cli.key_types import without_none
from workbench.cli.messages import in_80_columns
from workbench.cli.run_name import as_mapping
from workbench.cli.unknown_keys import NAME, filled, nearest_keys
from workbench.cli.yaml_files.recipes import load_mapping, load_recipe
from workbench.cli.yaml_files.sources import Sources, composed
from workbench.config import Config
from workbench.config.ranges import RANGE
from workbench.errors import ConfigError
from workbench.shipped import shipped

RUN = "run"
"""Title of the section of keys without a section, such as seed."""

NOT_COMPARED = ("description", "recipe_name", "steps", "continues")
"""Keys whose values in recipes are not listed, because they describe the recipe."""

PLAIN_TYPES = {bool: "true or false", int: "integer", float: "number", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of the configuration, as the reference lists it."""

    name: str
    """Dotted key; NAME stands for a name that the user chooses."""
    values: str
    """Allowed values: the type with its range, or the options."""
    default: str
    """Default as YAML, or `required`."""
    recipes: dict[str, list[str]]
    """Value that is not the default -> the shipped recipes that set it."""
    text: str
    """What the key does, as one paragraph."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of the configuration with its keys, as the reference lists it."""

    name: str
    text: str
    """What the section is for, as one paragraph; empty if only some of its keys were selected."""
    example: str
    """A command that uses the section's keys; empty if only some of its keys were selected."""
    keys: list[Key]


def keys_text(words: list[str]) -> str:
    """Return the reference for the terminal: every section, or the keys that one word names.

    Raises:
        ConfigError: There is more than one word, or the word names no key.
    """
    if len(words) > 1:
        raise ConfigError(f"--keys: {' '.join(words)!r} (at most one section or key, as in --keys train)")
    listed = sections()
    if words:
        listed = [select_keys(section, words[0]) for section in listed]
        if not any(section.keys for section in listed):
            raise ConfigError(f"--keys: unknown section {words[0]!r} ({suggestion(words[0], listed)})")
    return "\n".join(line for section in listed if section.keys for line in section_lines(section))


def select_keys(section: Section, word: str) -> Section:
    """Return a section with all its keys if `word` is its name, else with the keys at or below key `word`.

    These keys may be none. NAME in a key matches any name: `benchmarks.cmmlu.limit` selects
    `benchmarks.NAME.limit`.
    """
    if word == section.name:
        return section
    words = word.split(".")
    keys = [key for key in section.keys if f"{filled(key.name, words)}.".startswith(f"{word}.")]
    return Section(name=section.name, text="", example="", keys=keys)


def suggestion(word: str, known: list[Section]) -> str:
    """Return the hint for an unknown section or key: similar keys, or else all sections."""
    if near := nearest_keys(word):
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(section.name for section in known)}"


def section_lines(section: Section) -> Iterator[str]:
    """Yield the lines of a section's reference for the terminal."""
    if section.text:
        yield from (section.name.upper(), *in_80_columns(section.text, ""), "")
        yield from (f"  {line}" for line in section.example.splitlines())
        yield ""
    for key in section.keys:
        yield key.name
        yield from in_80_columns(f"{key.values}; default {key.default}", "    ")
        if key.recipes:
            yield from in_80_columns(f"recipes: {recipe_values_text(key, '')}", "    ")
        yield from (*in_80_columns(key.text, "    "), "")


def recipe_values_text(key: Key, mark: str) -> str:
    """Return the values that recipes give a key, as `512 in plan, sft`, with `mark` around each value."""
    return "; ".join(f"{mark}{value}{mark} in {', '.join(names)}" for value, names in key.recipes.items())


@cache
def sections() -> list[Section]:
    """Return every section with its keys, `run` first, then in Config's order; call `register` before."""
    effective = as_mapping(composed(Sources(), []))
    keys = list(keys_of(Config, "", effective, recipe_values()))
    hints = get_type_hints(Config)
    result = []
    for name in (RUN, *(name for name, kind in hints.items() if section_class(kind) is not None)):
        schema = Config if name == RUN else section_class(hints[name])
        assert schema is not None
        own = [key for key in keys if section_of(key, hints) == name]
        text, _, example = documents(schema)[""].partition("\n\nExample:\n")
        result.append(Section(name=name, text=one_line(text), example=textwrap.dedent(example), keys=own))
    return result


def section_of(key: Key, hints: Mapping[str, Any]) -> str:
    """Return the section under which the reference lists a key: the key's first word, or `run`."""
    first = key.name.partition(".")[0]
    return RUN if section_class(hints[first]) is None else first


def keys_of(
    schema: type, above: str, effective: Any, recipes: Mapping[str, Mapping[str, Any]]
) -> Iterator[Key]:
    """Yield every key of a dataclass and of the sections in it.

    Args:
        schema: The dataclass.
        above: Its dotted key followed by a dot, or empty.
        effective: Its composed values; None below a name that the user chooses.
        recipes: Recipe -> its values by dotted key.
    """
    texts, hints = documents(schema), get_type_hints(schema)
    for field in fields(schema):
        name, kind = f"{above}{field.name}", hints[field.name]
        inner = section_class(kind)
        value = field.default if field.default_factory is MISSING else field.default_factory()
        if effective is not None:
            value = effective[field.name]
        if inner is None or get_origin(kind) is dict:
            own = {recipe: values[name] for recipe, values in recipes.items() if name in values}
            differing: dict[str, list[str]] = {}
            for recipe, other in own.items():
                if other != value and as_yaml(other) != as_yaml(value):
                    differing.setdefault(as_yaml(other), []).append(recipe)
            allowed = type_text(kind, field.metadata.get(RANGE))
            text = one_line(texts[field.name])
            yield Key(name=name, values=allowed, default=as_yaml(value), recipes=differing, text=text)
        if inner is not None:
            is_mapping = get_origin(kind) is dict
            below = None if is_mapping or effective is None else value
            yield from keys_of(inner, f"{name}.{NAME}." if is_mapping else f"{name}.", below, recipes)


def section_class(kind: Any) -> type | None:
    """Return the dataclass of a section, or of the sections in a mapping; None for plain values."""
    inner = get_args(kind)[1] if get_origin(kind) is dict else kind
    return inner if isinstance(inner, type) and is_dataclass(inner) else None


def type_text(kind: Any, allowed: object) -> str:
    """Return the allowed values of a field as text.

    Args:
        kind: The declared type.
        allowed: The range; None: any value.
    """
    plain = without_none(kind)
    null = "" if plain is kind else ", or null"
    limits = f" {allowed}" if allowed is not None else ""
    if isinstance(plain, type) and issubclass(plain, Enum):
        return ", ".join(plain.__members__) + null
    if get_origin(plain) is list:
        inner = get_args(plain)[0]
        if is_dataclass(inner):
            return f"list of mappings with {', '.join(field.name for field in fields(inner))}{null}"
        return f"list of {'texts' if inner is str else type_text(inner, None)}{null}"
    if get_origin(plain) is dict:
        inner = get_args(plain)[1]
        if section_class(kind) is not None:
            return "mapping of a name to the keys below"
        return f"mapping of a name to {'any value' if inner is Any else type_text(inner, allowed)}{null}"
    return f"{PLAIN_TYPES[plain]}{limits}{null}"


def as_yaml(value: Any) -> str:
    """Return a value as one line of YAML; `required` for MISSING, which is not a default."""
    if value is MISSING:
        return "required"
    if isinstance(value, Enum):
        value = value.name
    if isinstance(value, str | list) and "\n" in "".join(map(str, value)):
        return json.dumps(value, ensure_ascii=False)  # JSON is YAML; safe_dump would break the line
    text: str = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")


@cache
def documents(schema: type) -> dict[str, str]:
    """Return field name -> the docstring below the field, and "" -> the docstring of the dataclass."""
    tree = ast.parse(inspect.getsource(sys.modules[schema.__module__]))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == schema.__name__)
    texts = {"": ast.get_docstring(body) or ""}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            expression = below.value if isinstance(below, ast.Expr) else None
            text = expression.value if isinstance(expression, ast.Constant) else ""
            texts[field.target.id] = str(text)
    return texts


def one_line(text: str) -> str:
    """Join the lines of a docstring to one line."""
    return " ".join(text.split())


def recipe_values() -> dict[str, dict[str, Any]]:
    """Return shipped recipe -> {dotted key: value} of the keys that it and its group options set."""
    return {
        file.stem: dict(flattened(as_mapping(load_recipe(file))))
        for file in sorted(shipped("recipes").glob("*.yaml"))
    }


def flattened(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of all that a recipe's group options and then the recipe itself set.

    The recipe's keys in NOT_COMPARED are left out.
    """
    for entry in recipe.get("defaults", []):
        for group, option in entry.items():
            if isinstance(option, str):
                section = group.removeprefix("override /")
                file = shipped("conf") / section / f"{option}.yaml"
                for name, value in as_mapping(load_mapping(file, "group's option")).items():
                    yield f"{section}.{name}", value
    for name, value in recipe.items():
        if name != "defaults" and name not in NOT_COMPARED:
            inner = value.items() if isinstance(value, dict) else [("", value)]
            yield from ((f"{name}.{key}" if key else name, entry) for key, entry in inner)
