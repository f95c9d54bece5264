"""The recipe files: ours, the user's own, and the list that the bare command prints."""

from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from workbench.cli.messages import one_line
from workbench.cli.unfolding import check_unfolded
from workbench.errors import ConfigError
from workbench.shipped import shipped
from workbench.shown import clean


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
    """The recipes, a line each, for the bare command."""
    recipes = {
        name: load_recipe(path).get("description", "") for name, path in sorted(recipe_files().items())
    }
    width = max(map(len, recipes), default=0)
    lines = [clean(f"  {name:<{width}}  {description}") for name, description in recipes.items()]
    return "\n".join(["python -m workbench recipe=NAME [KEY=VALUE ...]   (--help says more)", "", *lines])
