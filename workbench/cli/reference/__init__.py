"""The reference of all configuration keys, made from the docstrings of workbench/config.

`python -m workbench --keys [SECTION]` prints it, workbench.cli.reference.page writes it into conf/README.md.
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

from workbench.cli.composition import as_mapping
from workbench.cli.keys import without_none
from workbench.cli.messages import wrapped
from workbench.cli.recipes import load_mapping, load_recipe
from workbench.cli.sources import Sources, composed
from workbench.config import Config
from workbench.config.error_hints import NAME, filled, nearest_keys
from workbench.config.ranges import RANGE
from workbench.errors import ConfigError
from workbench.shipped import shipped

RUN = "run"
"""Title of the section of keys without a section, such as seed."""

NOT_COMPARED = ("description", "recipe_name", "steps", "continues")
"""Keys of which a recipe's own value isn't told: it is what the recipe is."""

PLAIN_TYPES = {bool: "true or false", int: "integer", float: "number", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of the configuration."""

    name: str
    """Dotted; NAME stands for a name that the user gives."""
    values: str
    """What it takes: its type with the range, or its options."""
    default: str
    """As YAML; `required` without one."""
    recipes: dict[str, list[str]]
    """Another value -> the shipped recipes that set it."""
    text: str
    """What the key does, as one paragraph."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The keys of one section, in order."""

    name: str
    text: str
    example: str
    """A command that uses the section's keys."""
    keys: list[Key]


def keys_text(words: list[str]) -> str:
    """The reference for the terminal: every section, or the keys that the one word names.

    Raises:
        ConfigError: More than one word, or a word that names no key.
    """
    if len(words) > 1:
        raise ConfigError(f"--keys: {' '.join(words)!r} (at most one section or key, as in --keys train)")
    found = sections()
    if words:
        found = [chosen(section, words[0]) for section in found]
        if not any(section.keys for section in found):
            raise ConfigError(f"--keys: unknown section {words[0]!r} ({known_instead(words[0], found)})")
    return "\n".join(line for section in found if section.keys for line in section_lines(section))


def chosen(section: Section, word: str) -> Section:
    """The section with only the keys that a dotted word names, or below it; all for its own name."""
    if word == section.name:
        return section
    words = word.split(".")
    keys = [key for key in section.keys if f"{filled(key.name, words)}.".startswith(f"{word}.")]
    return Section(name=section.name, text="", example="", keys=keys)


def known_instead(word: str, known: list[Section]) -> str:
    """The near names of an unknown section or key, or all sections."""
    if near := nearest_keys(word):
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(section.name for section in known)}"


def section_lines(section: Section) -> Iterator[str]:
    """A section for the terminal."""
    if section.text:
        yield from (section.name.upper(), *wrapped(section.text, ""), "")
        yield from (f"  {line}" for line in section.example.splitlines())
        yield ""
    for key in section.keys:
        yield key.name
        yield from wrapped(f"{key.values}; default {key.default}", "    ")
        if key.recipes:
            yield from wrapped(f"recipes: {told_recipes(key, '')}", "    ")
        yield from (*wrapped(key.text, "    "), "")


def told_recipes(key: Key, mark: str) -> str:
    """The recipes' own values of a key, as `512 in plan, sft`, each value between two of `mark`."""
    return "; ".join(f"{mark}{value}{mark} in {', '.join(names)}" for value, names in key.recipes.items())


@cache
def sections() -> list[Section]:
    """Every section with its keys, in the order of Config; `register` must have been called."""
    effective = as_mapping(composed(Sources(), []))
    keys = list(keys_of(Config, "", effective, recipe_values()))
    hints = get_type_hints(Config)
    made = []
    for name in (RUN, *(name for name, kind in hints.items() if section_class(kind) is not None)):
        schema = Config if name == RUN else section_class(hints[name])
        assert schema is not None
        own = [key for key in keys if section_of(key, hints) == name]
        text, _, example = documents(schema)[""].partition("\n\nExample:\n")
        made.append(Section(name=name, text=one_line(text), example=textwrap.dedent(example), keys=own))
    return made


def section_of(key: Key, hints: Mapping[str, Any]) -> str:
    """The name of the section that a key is told in."""
    first = key.name.partition(".")[0]
    return RUN if section_class(hints[first]) is None else first


def keys_of(
    schema: type, above: str, effective: Any, recipes: Mapping[str, Mapping[str, Any]]
) -> Iterator[Key]:
    """Every key of a dataclass and of the sections in it.

    Args:
        schema: The dataclass.
        above: Its dotted key with a dot behind, or empty.
        effective: Its composed values; None below a name that the user gives.
        recipes: Recipe -> its values by their dotted keys.
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
            allowed = told_type(kind, field.metadata.get(RANGE))
            text = one_line(texts[field.name])
            yield Key(name=name, values=allowed, default=as_yaml(value), recipes=differing, text=text)
        if inner is not None:
            named = get_origin(kind) is dict
            below = None if named or effective is None else value
            yield from keys_of(inner, f"{name}.{NAME}." if named else f"{name}.", below, recipes)


def section_class(kind: Any) -> type | None:
    """The dataclass of a section, or of each section in a mapping; None for plain values."""
    inner = get_args(kind)[1] if get_origin(kind) is dict else kind
    return inner if isinstance(inner, type) and is_dataclass(inner) else None


def told_type(kind: Any, allowed: object) -> str:
    """What a field takes, in words.

    Args:
        kind: Its declared type.
        allowed: Its range; None: any value.
    """
    plain = without_none(kind)
    null = "" if plain is kind else ", or null"
    limits = f" {allowed}" if allowed is not None else ""
    if isinstance(plain, type) and issubclass(plain, Enum):
        return ", ".join(plain.__members__) + null
    if get_origin(plain) is list:
        inner = get_args(plain)[0]
        return f"list of {'texts' if inner is str else told_type(inner, None)}{null}"
    if get_origin(plain) is dict:
        inner = get_args(plain)[1]
        if section_class(kind) is not None:
            return "mapping of a name to the keys below"
        return f"mapping of a name to {'any value' if inner is Any else told_type(inner, allowed)}{null}"
    return f"{PLAIN_TYPES[plain]}{limits}{null}"


def as_yaml(value: Any) -> str:
    """A value as a YAML says it on one line."""
    if value is MISSING:
        return "required"
    if isinstance(value, Enum):
        value = value.name
    if isinstance(value, str | list) and "\n" in "".join(map(str, value)):
        return json.dumps(value, ensure_ascii=False)  # as YAML reads it too; safe_dump would break the line
    written: str = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False
    )
    return written.removesuffix("\n").removesuffix("\n...")


@cache
def documents(schema: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, by the field's name; the dataclass's own under ""."""
    tree = ast.parse(inspect.getsource(sys.modules[schema.__module__]))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == schema.__name__)
    texts = {"": ast.get_docstring(body) or ""}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            given = below.value if isinstance(below, ast.Expr) else None
            text = given.value if isinstance(given, ast.Constant) else ""
            texts[field.target.id] = str(text)
    return texts


def one_line(text: str) -> str:
    """A docstring without its line breaks."""
    return " ".join(text.split())


def recipe_values() -> dict[str, dict[str, Any]]:
    """Shipped recipe -> its values by dotted key, those of the options that it chooses included."""
    return {
        file.stem: dict(flattened(as_mapping(load_recipe(file))))
        for file in sorted(shipped("recipes").glob("*.yaml"))
    }


def flattened(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of a recipe by dotted key, but for those that say what the recipe is."""
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
            yield from ((f"{name}.{key}" if key else name, each) for key, each in inner)
