"""Boards for the tests of the files that other programs read."""

import pytest
from board_maker import Board, MadeTexts, Size, make_board


@pytest.fixture(scope="session")
def board() -> Board:
    return make_board(Size(models=10, columns=8, items=30))


@pytest.fixture(scope="session")
def hostile() -> Board:
    return make_board(Size(models=7, columns=7, items=12, hostile=True))


@pytest.fixture(scope="session")
def texts(board) -> MadeTexts:
    return MadeTexts(board)
