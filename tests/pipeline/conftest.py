"""Runs of the shipped recipes, shortened, in this process."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from workbench import cli, pipeline
from workbench.config import Config
from workbench.run_dir import RunDir

Run = Callable[..., RunDir]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Run:
    """Runs a recipe with overrides in a folder of its own; the log of each call is in caplog."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")
    cli.register()

    def run(recipe: str, *overrides: str) -> RunDir:
        caplog.clear()
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
            composed = compose("config", overrides=[f"recipe={recipe}", f"recipe_name={recipe}", *overrides])
        config = OmegaConf.to_object(composed)
        assert isinstance(config, Config)
        run_dir = RunDir(Path(config.run_dir or f"runs/{recipe}"))
        pipeline.run(config, run_dir, OmegaConf.to_yaml(composed))
        return run_dir

    return run
