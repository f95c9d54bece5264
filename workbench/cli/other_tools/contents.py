"""Reads configuration files of other tools, and writes their values as they are typed on the command line."""

import re
from pathlib import Path
from typing import Any

import yaml

from workbench.cli.quoting import quoted
from workbench.cli.yaml_files.unfolding import check_unfolded
from workbench.errors import ConfigError
from workbench.shown import MASK

SECRET_WORDS = ("token", "key", "secret", "password")
"""Last words of keys whose values are credentials, such as hub_token and wandb_api_key."""


def mapping(path: Path) -> dict[Any, Any]:
    """Return the mapping in a YAML or JSON file; empty if it can't be read, is too large or has none."""
    try:
        check_unfolded(path)
        content = yaml.safe_load(path.read_text("utf-8"))
    except (ConfigError, OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def text(value: Any) -> str:
    """Return a value from YAML as it is typed on the command line: `[a,b]`, `{key: value}`, `true`."""
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {inner(entry)}" for key, entry in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def inner(value: Any) -> str:
    """Return a value inside a mapping as `text` does; a text with special characters of Hydra in quotes."""
    is_special = isinstance(value, str) and re.search(r"[\s,:\[\]{}'\"=$]", value)
    return quoted(value) if is_special else text(value)


def shown_value(key: str, value: Any) -> str:
    """Return a key's value for an error message; `***` if the key's name says that it is a credential."""
    last_word = key.replace("-", "_").rpartition("_")[2].casefold()
    return MASK if value and last_word in SECRET_WORDS else str(value)


def is_nested(value: Any) -> bool:
    """Return whether a value is a mapping or a list of mappings, which the command line can't express."""
    return isinstance(value, dict) or (isinstance(value, list) and any(map(is_nested, value)))


def names_in(value: Any) -> list[str]:
    """Return the names in a list or in a text `a,b`, without empty ones."""
    names = value if isinstance(value, list) else str(value).split(",")
    return [str(name).strip() for name in names if str(name).strip()]
