"""Translates a configuration file of LLaMA-Factory, axolotl or TRL into a command, for an error message."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from workbench.cli.answers import assignment
from workbench.cli.error_hints import NAME
from workbench.cli.habits import key_here
from workbench.cli.keys import all_keys, declared_type, groups, kind_of
from workbench.cli.yaml_files.recipes import recipe_files
from workbench.cli.yaml_files.unfolding import check_unfolded
from workbench.errors import ConfigError
from workbench.shown import MASK

FEWEST = 2
"""Minimum number of translated keys from which a file is one of another tool."""

STAGES: dict[Any, dict[str, str]] = {"sft": {}, "pt": {"data.format": "data.format=text"}}
"""Stage of LLaMA-Factory -> our keys and their assignments."""

SECRET_WORDS = ("token", "key", "secret", "password")
"""Last words of keys whose values are credentials, such as hub_token and wandb_api_key."""


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
        if key == "stage" and isinstance(value, str) and value in STAGES:
            ours |= STAGES[value]
        elif key == "datasets" and "data.path" in ours:
            continue
        elif name is None or NAME in name or key == "stage" or is_nested(value):
            without.append(f"{key}: {shown_value(str(key), value)}")
        elif is_set(name, value) and not name.startswith("recipe"):
            ours.setdefault(name.partition("=")[0], assignment(name, text(value)))
    return list(ours.values()), without


def is_nested(value: Any) -> bool:
    """Return whether a value holds mappings, which no assignment can hold."""
    return isinstance(value, dict) or (isinstance(value, list) and any(map(is_nested, value)))


def is_set(name: str, value: Any) -> bool:
    """Return whether a value sets something: false sets only keys of ours that are true or false."""
    return value is not None and (value is not False or declared_type(name) is bool)


def shown_value(key: str, value: Any) -> str:
    """Return a value for the message, or *** if it is a credential."""
    last_word = key.replace("-", "_").rpartition("_")[2].casefold()
    return MASK if value and last_word in SECRET_WORDS else str(value)


def named_data_set(content: dict[Any, Any]) -> str | None:
    """Return the data set as an assignment: LLaMA-Factory's, by dataset_info.json, or axolotl's only one.

    None: it is not listed there, or there are several.
    """
    match content.get("datasets"):
        case [{"path": str(path)}]:
            return assignment("data.path", path)
    folder = Path(str(content.get("dataset_dir", "data")))
    file = mapping(folder / "dataset_info.json").get(str(content.get("dataset")))
    name = file.get("file_name") if isinstance(file, dict) else None
    return assignment("data.path", str(folder / name)) if name else None


def same_last_word(key: str) -> str | None:
    """Return our key whose last word is this one, such as train.logging_steps for logging_steps."""
    if kind_of(key) or key in groups():
        return key
    return next((ours for ours in all_keys() if ours.rpartition(".")[2] == key and NAME not in ours), None)


def mapping(path: Path) -> dict[Any, Any]:
    """Return the mapping of a YAML or JSON file; empty: the file holds something else, or is too large."""
    try:
        check_unfolded(path)
        content = yaml.safe_load(path.read_text("utf-8"))
    except (ConfigError, OSError, ValueError, yaml.YAMLError):
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
