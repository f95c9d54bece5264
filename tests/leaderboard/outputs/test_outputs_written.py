"""All files for other programs together."""

from board_maker import MadeTexts, Size, make_board

from workbench.files import part_of
from workbench.leaderboard.outputs import writing

NAMES = {*writing.TEXTS, writing.ITEMS}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_equal_boards_give_equal_bytes(board, texts, tmp_path):
    writing.write(board, texts, tmp_path / "a")
    same = make_board(Size(models=10, columns=8, items=30))
    writing.write(same, MadeTexts(same), tmp_path / "b")
    assert contents(tmp_path / "a").keys() >= NAMES
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_a_killed_writer_left_is_gone_after_the_next_write(board, texts, tmp_path):
    (tmp_path / ".leaderboard.csv.abcdefgh").write_text("half")
    part_of(tmp_path / "items.parquet").write_text("half")
    writing.write(board, texts, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
