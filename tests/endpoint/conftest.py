"""The toy model behind the project's own server, and behind wrong ones."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from serving_client import OneModel, Served, language_model  # noqa: E402
from wrong_servers import Spoiled, right, unchanged  # noqa: E402

import workbench as wb  # noqa: E402
from workbench.config.data import DataConfig  # noqa: E402
from workbench.evaluation.inference.causal_lm import TransformersLM  # noqa: E402
from workbench.shipped import PACKAGE  # noqa: E402


@pytest.fixture(scope="session")
def lm() -> TransformersLM:
    return language_model(*wb.load_model(PACKAGE / "toy" / "base", dtype="float32"))


@pytest.fixture(scope="module")
def served(lm) -> Iterator[Served]:
    server = Served(OneModel(lm), {"base": lm.max_length}, DataConfig(template="chatml"))
    yield server
    server.stop()


@pytest.fixture
def spoiled(served) -> Iterator[Callable[..., Spoiled]]:
    """Starts wrong servers in front of the right one."""
    servers: list[Spoiled] = []

    def start(change=unchanged, spoil=right, fails=None) -> Spoiled:
        servers.append(Spoiled(served.port, change, spoil, fails))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
