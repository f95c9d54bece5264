"""Runs of the shipped recipes, shortened, in this process."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from workbench import cli
from workbench.config import Config
from workbench.pipeline.run import run as run_steps
from workbench.run_dir import RunDir

Run = Callable[..., RunDir]


def run_recipe(recipe: str, *overrides: str) -> RunDir:
    """Run a recipe in the current folder; a quickstart of few steps reads few of its 9,000 rows."""
    is_short = any(re.fullmatch(r"train\.max_steps=\d", text) for text in overrides)
    if recipe == "quickstart" and is_short and not any(text.startswith("data.path=") for text in overrides):
        overrides = ("data.limit=640", *overrides)
    cli.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
        composed = compose("config", overrides=[f"recipe={recipe}", f"recipe_name={recipe}", *overrides])
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    run_dir = RunDir(Path(config.run_dir or f"runs/{recipe}"))
    run_steps(config, run_dir, OmegaConf.to_yaml(composed))
    return run_dir


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs a recipe in a folder of its own, for tests that each work on a copy of it."""

    def run_once(prepare: Callable[[Path], object], recipe: str, *overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("once")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            prepare(folder)
            run_recipe(recipe, *overrides)
        return folder

    return run_once


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Run:
    """Runs a recipe with overrides in a folder of its own; the log of each call is in caplog."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO, logger="workbench")

    def run(recipe: str, *overrides: str) -> RunDir:
        caplog.clear()
        return run_recipe(recipe, *overrides)

    return run
