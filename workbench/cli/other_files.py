"""Translates a configuration file of LLaMA-Factory, axolotl or TRL into a command, for an error message."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from workbench.cli.answers import assignment
from workbench.cli.error_hints import NAME
from workbench.cli.habits import key_here
from workbench.cli.keys import all_keys, groups, kind_of
from workbench.cli.yaml_files.recipes import recipe_files
from workbench.errors import ConfigError

FEWEST = 2
"""Minimum number of translated keys from which a file is one of another tool."""

STAGES: dict[Any, dict[str, str]] = {"sft": {}, "pt": {"data.format": "data.format=text"}}
"""Stage of LLaMA-Factory -> our keys and their assignments."""


def check_files_of_other_tools(words: Sequence[str]) -> None:
    """Check that no word names a configuration file of another tool.

    Raises:
        ConfigError: One does; the message is the command that does the same here.
    """
    for word in words:
        name = word.removeprefix("recipe=").removeprefix("--config=")
        if name.endswith((".yaml", ".yml", ".json")) and "=" not in name and Path(name).is_file():
            ours, without = translated(Path(name))
            if len(ours) >= FEWEST:
                missing = f"; without a counterpart: {', '.join(without)}" if without else ""
                raise ConfigError(f"{name}: not a recipe (here it is {command(ours)}{missing})")
            if word in (name, f"recipe={name}"):
                raise ConfigError(f"{name}: {how_recipes_are_named(Path(name))}")


def how_recipes_are_named(path: Path) -> str:
    """Return how to run a file as a recipe."""
    if path.stem in recipe_files():
        return f"a recipe is named without its ending (recipe={path.stem})"
    return f"not in ./recipes (move it there, then recipe={path.stem})"


def translated(path: Path) -> tuple[list[str], list[str]]:
    """Return a file's keys as assignments of ours, and the keys that have no counterpart here."""
    content = mapping(path)
    ours = {"data.path": data} if (data := named_data_set(content)) else {}
    without = []
    for key, value in content.items():
        name = key_here(str(key)) or same_last_word(str(key))
        if name is None or NAME in name or (key == "stage" and value not in STAGES):
            without.append(f"{key}: {value}")
        elif key == "stage":
            ours |= STAGES[value]
        elif value not in (None, False) and not name.startswith("recipe"):
            ours.setdefault(name.partition("=")[0], assignment(name, text(value)))
    return list(ours.values()), without


def named_data_set(content: dict[Any, Any]) -> str | None:
    """Return LLaMA-Factory's data set as an assignment; None: dataset_info.json doesn't list it."""
    folder = Path(str(content.get("dataset_dir", "data")))
    file = mapping(folder / "dataset_info.json").get(content.get("dataset"))
    name = file.get("file_name") if isinstance(file, dict) else None
    return assignment("data.path", str(folder / name)) if name else None


def same_last_word(key: str) -> str | None:
    """Return our key whose last word is this one, such as train.logging_steps for logging_steps."""
    if kind_of(key) or key in groups():
        return key
    return next((ours for ours in all_keys() if ours.rpartition(".")[2] == key and NAME not in ours), None)


def mapping(path: Path) -> dict[Any, Any]:
    """Return the mapping of a YAML or JSON file; empty: the file holds something else."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def text(value: Any) -> str:
    """Return a YAML value as it is typed on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def command(assignments: Sequence[str]) -> str:
    """Return the command with these assignments."""
    return f"python -m workbench recipe=sft {' '.join(assignments)}"
