"""Fixtures of the training tests."""

import pytest
from tiny_training import tiny_tokenizer, write_base


@pytest.fixture(scope="session")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))
