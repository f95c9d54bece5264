"""The recipe files: ours, the user's own, and the list that the bare command prints."""

from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.cells import cell_len, set_cell_size

from workbench.cli.messages import one_line, wrapped
from workbench.cli.unfolding import check_unfolded
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
    """Name to file of each recipe; a file in ./recipes comes before a shipped one of the same name."""
    folders = [shipped("recipes"), Path("recipes")]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: Path) -> DictConfig:
    """The content of a recipe file.

    Raises:
        ConfigError: not a YAML mapping.
    """
    return load_mapping(path, "recipe")


def load_mapping(path: Path, kind: str) -> DictConfig:
    """The content of a YAML file that maps keys to values, as one of this kind does.

    Raises:
        ConfigError: it doesn't.
    """
    check_unfolded(path)
    try:
        found = OmegaConf.load(path)
    except (yaml.YAMLError, ValueError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not YAML: {one_line(error)}") from error
    if not isinstance(found, DictConfig):
        raise ConfigError(f"{path}: not a {kind} (a {kind} maps keys to values)")
    return found


def recipe_list() -> str:
    """The recipes with what they do, for the bare command."""
    recipes = {
        name: load_recipe(path).get("description", "") for name, path in sorted(recipe_files().items())
    }
    width = max(map(cell_len, recipes), default=0) + 4
    lines: list[str] = []
    for name, description in recipes.items():
        first, *more = wrapped(str(description), " " * width)
        lines += [f"  {set_cell_size(clean(name), width - 2)}{first.lstrip()}", *more]
    return "\n".join([*HEAD, *lines])
