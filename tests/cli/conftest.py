"""The command line in this process: words as the shell hands them over, composed by Hydra itself."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from workbench import cli
from workbench.cli.arguments import prepare

Compose = Callable[..., DictConfig]
Command = Callable[..., str]


@pytest.fixture(scope="module")
def composed() -> Compose:
    """What Hydra makes of words, in the way that `python -m workbench` hands them on."""
    cli.register()

    def composed(*words: str) -> DictConfig:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
            return compose("config", overrides=prepare(words)[1])

    return composed


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """`python -m workbench ...` in a folder of its own, in this process: its error line or its output."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        for name in ("HYDRA_FULL_ERROR", cli.TRACEBACK):
            monkeypatch.setenv(name, "0")
        GlobalHydra.instance().clear()
        logging.getLogger("workbench").handlers.clear()
        try:
            cli.main()
        except SystemExit as end:
            assert end.code is not None and "\n" not in str(end.code), end.code
            return str(end.code)
        return capsys.readouterr().out

    log = logging.getLogger("workbench")
    before = (log.handlers[:], log.level, log.propagate)
    yield command
    log.handlers[:], log.level, log.propagate = before
