"""Finds and loads recipe files, and lists them for `python -m workbench` without arguments."""

from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.cells import cell_len, set_cell_size

from workbench.cli.messages import in_80_columns, one_line
from workbench.cli.yaml_files.unfolding import check_unfolded
from workbench.errors import ConfigError
from workbench.shipped import shipped
from workbench.shown import clean

HEAD = (
    "python -m workbench recipe=NAME [KEY=VALUE ...]   run a recipe",
    "python -m workbench --keys [SECTION]              what each KEY means",
    "python -m workbench --help                        options and benchmarks",
    "",
)


def recipe_files() -> dict[str, Path]:
    """Return recipe name -> YAML file, shipped or in ./recipes; the user's file replaces a shipped one."""
    folders = [shipped("recipes"), Path("recipes")]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: Path) -> DictConfig:
    """Load a recipe file.

    Raises:
        ConfigError: The file is not a YAML mapping.
    """
    return load_mapping(path, "recipe")


def load_mapping(path: Path, kind: str) -> DictConfig:
    """Load a YAML file that maps keys to values; `kind` names it in messages.

    Raises:
        ConfigError: The file is not a YAML mapping.
    """
    check_unfolded(path)
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, ValueError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not YAML: {one_line(error)}") from error
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path}: not a {kind} (a {kind} maps keys to values)")
    return content


def recipe_list() -> str:
    """Return what `python -m workbench` without arguments prints: usage, and recipes with descriptions.

    Raises:
        ConfigError: A recipe file of the user is not a YAML mapping.
    """
    recipes = {
        name: load_recipe(path).get("description", "") for name, path in sorted(recipe_files().items())
    }
    width = max(map(cell_len, recipes), default=0) + 4
    lines: list[str] = []
    for name, description in recipes.items():
        first, *more = in_80_columns(str(description), " " * width)
        lines += [f"  {set_cell_size(clean(name), width - 2)}{first.lstrip()}", *more]
    return "\n".join([*HEAD, *lines])
