"""One server of the toy model for all tests of a file; tests with other limits start their own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving_client import OneModel, Served, language_model
from wrong_servers import Spoiled, right, unchanged

import workbench as wb
from workbench.config.data import DataConfig
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.shipped import PACKAGE

sys.path.append(str(Path(__file__).parents[1] / "pipeline"))  # for run_recipe


@pytest.fixture(scope="session")
def lm() -> TransformersLM:
    return language_model(*wb.load_model(PACKAGE / "toy" / "base", dtype="float32"))


@pytest.fixture(scope="module")
def served(lm) -> Iterator[Served]:
    server = Served(OneModel(lm), {"base": lm.max_length}, DataConfig(template="chatml"))
    yield server
    server.stop()


@pytest.fixture
def serve(lm) -> Iterator[Callable[..., Served]]:
    """Starts servers with other limits, and stops them after the test."""
    servers: list[Served] = []

    def start(models=None, template: str = "chatml", **limits) -> Served:
        servers.append(
            Served(models or OneModel(lm), {"base": lm.max_length}, DataConfig(template=template), **limits)
        )
        return servers[-1]

    yield start
    for server in servers:
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
