"""Runs of the shipped recipes, shortened, in this process."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from run_recipe import run_recipe

from workbench.run_dir import RunDir

Run = Callable[..., RunDir]


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
