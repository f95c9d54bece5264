"""Texts in YAMLs that YAML reads as something else: `choices: [yes, no]` would become True and False."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from workbench.cli.keys import Kind, kind_of
from workbench.cli.recipes import load_mapping, recipe_files
from workbench.cli.sources import Sources
from workbench.errors import ConfigError

_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.M)
_READ_AS = {bool: "the truth value", int: "the number", float: "the number"}


def check_texts(composed: DictConfig, sources: Sources) -> None:
    """Refuse values of text keys that YAML turns into a truth value or another spelling of a number.

    Args:
        composed: What Hydra composed; its node says which YAMLs are in it.
        sources: Where they lie.

    Raises:
        ConfigError: names file, line, key and value.
    """
    for file in sources.files():
        group = "recipe" if file in recipe_files().values() else file.parent.name
        text = file.read_text(encoding="utf-8", errors="replace")
        package = _PACKAGE.search(text)
        place = package[1] if package else group
        place = "" if place in ("_global_", "recipe") or file.parent == sources.main else place
        if _is_chosen(file, group, place, composed):
            check_file(file, place)


def _is_chosen(file: Path, group: str, place: str, composed: DictConfig) -> bool:
    """Whether a YAML is among those that Hydra composed; of several options of a group Hydra tells none."""
    choices = composed.hydra.runtime.choices
    if group in choices:
        return bool(choices[group] == file.stem)
    return not place or OmegaConf.select(composed, place) is not None


def check_file(file: Path, place: str) -> None:
    """Refuse such a value in one YAML, whose keys stand under `place`.

    Raises:
        ConfigError: names file, line, key and value.
    """
    values = OmegaConf.to_container(load_mapping(file, "configuration"), resolve=False)
    node = yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)
    for key, line, written, value in _changed(node, values, place):
        if kind_of(key) in (Kind.text, Kind.texts):
            raise ConfigError(
                f"{file}:{line}: {key}: YAML reads {written} as {_READ_AS[type(value)]} {value!r}, where a "
                f"text is wanted (in quotes: '{written}')"
            )


def _changed(node: yaml.Node | None, value: Any, key: str) -> Iterator[tuple[str, int, str, Any]]:
    """Key, line, text and value of each unquoted scalar that isn't written as its value would be."""
    if isinstance(node, yaml.ScalarNode):
        if node.style is None and type(value) in _READ_AS and str(value) != node.value:
            yield key, node.start_mark.line + 1, node.value, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        for child, entry in zip(node.value, value, strict=False):
            yield from _changed(child, entry, key)
    elif isinstance(node, yaml.MappingNode) and isinstance(value, dict) and len(node.value) == len(value):
        for (name, child), (own, entry) in zip(node.value, value.items(), strict=True):
            yield from _changed(name, own, key)
            yield from _changed(child, entry, f"{key}.{own}" if key else str(own))
