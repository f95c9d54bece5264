"""Finds the files and columns of data sets that LLaMA-Factory or axolotl name.

Source: data/README.md of LLaMA-Factory, on dataset_info.json.
"""

import re
from pathlib import Path
from typing import Any

from workbench.cli.other_tools.contents import mapping, names_in

ALPACA = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
}
"""Column in dataset_info.json -> our role, for rows in the alpaca format."""

HUB_KEYS = ("hf_hub_url", "ms_hub_url", "om_hub_url")


def data_settings(content: dict[Any, Any], named_by: str = "dataset") -> dict[str, Any]:
    """Return our key -> value for the data sets that another tool's job names; empty if it names none.

    Keys are `data.path` and others of one data set, or `data.sources` for several.

    Args:
        content: The keys and values of the other tool.
        named_by: Key that names the data sets of LLaMA-Factory.
    """
    match content.get("datasets"):
        case [{"path": str(path)}]:
            return {"data.path": path}
    names = names_in(content.get(named_by) or [])
    folder = Path(str(content.get("dataset_dir") or "data"))
    listed = mapping(folder / "dataset_info.json")
    sources = {name: source(name, listed.get(name), folder) for name in names}
    if len(sources) == 1:
        return {f"data.{key}": value for key, value in next(iter(sources.values())).items()}
    if sources:
        return {"data.sources": {re.sub(r"\W+", "_", name): settings for name, settings in sources.items()}}
    is_given = named_by == "dataset" and content.get("dataset_dir")
    return {"data.path": str(folder)} if is_given else {}


def source(name: str, entry: Any, folder: Path) -> dict[str, Any]:
    """Return setting -> value for one data set of LLaMA-Factory: path, and those given of four others.

    The others are columns, subset, split and limit.

    Args:
        name: Its name, which is its path if dataset_info.json doesn't list it.
        entry: Its entry in dataset_info.json.
        folder: Folder of dataset_info.json.
    """
    if not isinstance(entry, dict):
        return {"path": name}
    hub = next((entry[key] for key in HUB_KEYS if entry.get(key)), name)
    file = entry.get("file_name")
    settings = {
        "path": str(folder / str(file)) if file else str(hub),
        "columns": columns(entry),
        "subset": entry.get("subset"),
        "split": entry.get("split"),
        "limit": entry.get("num_samples"),
    }
    return {key: value for key, value in settings.items() if value}


def columns(entry: dict[str, Any]) -> dict[str, str]:
    """Return our role -> column name for an entry of dataset_info.json, where the two names differ."""
    tags = entry.get("tags") or {}
    has_roles = isinstance(tags, dict) and tags.get("role_tag") == "role"
    shared = {"messages": "messages" if has_roles else "conversations", "system": "system", "tools": "tools"}
    roles = shared if entry.get("formatting") == "sharegpt" else ALPACA
    given = entry.get("columns")
    pairs = given.items() if isinstance(given, dict) else ()
    return {roles[key]: name for key, name in pairs if key in roles and name != roles[key]}
