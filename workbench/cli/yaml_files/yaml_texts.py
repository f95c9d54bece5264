"""Detects texts that YAML reads as something else: `choices: [yes, no]` becomes True and False."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from workbench.cli.key_types import Kind, kind_of
from workbench.cli.yaml_files.recipes import load_mapping, recipe_files
from workbench.cli.yaml_files.sources import Sources
from workbench.errors import ConfigError

_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.M)
_READ_AS = {bool: "the boolean", int: "the number", float: "the number"}


def check_texts(composed: DictConfig, sources: Sources) -> None:
    """Check the user's YAML files that were composed: no text key has an unquoted value that YAML changes.

    YAML reads `yes` as True and `007` as 7.

    Args:
        composed: The composed configuration; its `hydra` node lists the YAML files in it.
        sources: Where the YAML files are.

    Raises:
        ConfigError: A key has such a value; the message names file, line, key and value.
    """
    for file in sources.files():
        group = "recipe" if file in recipe_files().values() else file.parent.name
        text = file.read_text(encoding="utf-8", errors="replace")
        package = _PACKAGE.search(text)
        section = package[1] if package else group
        section = "" if section in ("_global_", "recipe") or file.parent == sources.main else section
        if _is_chosen(file, group, section, composed):
            check_file(file, section)


def _is_chosen(file: Path, group: str, section: str, composed: DictConfig) -> bool:
    """Return whether Hydra read a YAML file, which it did if the file is the chosen option of its group.

    For a group that isn't among Hydra's choices, whether the file's section is in the configuration.
    """
    choices = composed.hydra.runtime.choices
    if group in choices:
        return bool(choices[group] == file.stem)
    return not section or OmegaConf.select(composed, section) is not None


def check_file(file: Path, section: str) -> None:
    """Check one YAML file as `check_texts` does.

    Args:
        file: The file.
        section: Dotted key of the section that the file's keys are in; empty: the root.

    Raises:
        ConfigError: YAML changes a text; the message names file, line, key and value.
    """
    values = OmegaConf.to_container(load_mapping(file, "configuration"), resolve=False)
    node = yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)
    for key, line, text, value in _changed(node, values, section):
        if kind_of(key) in (Kind.text, Kind.texts):
            raise ConfigError(
                f"{file}:{line}: {key}: YAML reads {text} as {_READ_AS[type(value)]} {value!r}, but the key "
                f"takes text (in quotes: '{text}')"
            )


def _changed(node: yaml.Node | None, value: Any, key: str) -> Iterator[tuple[str, int, str, Any]]:
    """Yield dotted key, line number, text and value of each unquoted scalar that YAML changes (yes: True)."""
    if isinstance(node, yaml.ScalarNode):
        if node.style is None and type(value) in _READ_AS and str(value) != node.value:
            yield key, node.start_mark.line + 1, node.value, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        for child, entry in zip(node.value, value, strict=False):
            yield from _changed(child, entry, key)
    elif isinstance(node, yaml.MappingNode) and isinstance(value, dict) and len(node.value) == len(value):
        for (name_node, child), (name, entry) in zip(node.value, value.items(), strict=True):
            yield from _changed(name_node, name, key)
            yield from _changed(child, entry, f"{key}.{name}" if key else str(name))
