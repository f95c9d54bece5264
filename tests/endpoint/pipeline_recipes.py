"""Runs shipped recipes, shortened, in this process."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from workbench import cli
from workbench.config import Config
from workbench.pipeline.run import run as run_steps
from workbench.run_dir import RunDir


def run_recipe(recipe: str, *overrides: str) -> RunDir:
    """Run a recipe in the current folder."""
    cli.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
        composed = compose("config", overrides=[f"recipe={recipe}", f"recipe_name={recipe}", *overrides])
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    run_dir = RunDir(Path(config.run_dir or f"runs/{recipe}"))
    run_steps(config, run_dir, OmegaConf.to_yaml(composed))
    return run_dir
