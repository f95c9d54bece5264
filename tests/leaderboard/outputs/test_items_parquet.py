"""items.parquet, as pandas and pyarrow read it."""

from dataclasses import replace

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from board_maker import MadeTexts

from workbench.leaderboard.outputs import items
from workbench.leaderboard.page.texts import NOT_CHOSEN, ColumnTexts, NoTexts


@pytest.fixture(scope="module")
def frame(board, texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    items.write(board, texts, path)
    return pandas.read_parquet(path)


class OneText(NoTexts):
    """The same texts for every column."""

    def __init__(self, texts):
        self.texts = texts

    def column(self, key):
        return self.texts


def first_column(board, values):
    """The board with its first column and its first two models alone."""
    column = board.columns[0]
    outcomes = board.outcomes[column.key]
    outcomes = replace(
        outcomes,
        models=outcomes.models[:2],
        ids=("a", "b"),
        subsets=("s", "s"),
        clusters=np.array([0, 0], np.int32),
        values=np.array(values, float),
    )
    return replace(board, columns=(column,), outcomes={column.key: outcomes})


def test_the_items_of_each_model_and_column_average_to_its_score(board, frame):
    found = frame.groupby(["model_key", "column_key"], observed=True).score.mean()
    ranked = {(cell.model, cell.column): cell.score.value for cell in board.cells if not cell.apart}
    assert found.to_dict() == pytest.approx(ranked)


def test_items_have_id_subset_and_cluster(board, frame):
    outcomes = board.outcomes[board.columns[0].key]
    rows = frame[(frame.column_key == outcomes.column) & (frame.model_key == outcomes.models[1])]
    assert tuple(rows.id) == outcomes.ids and tuple(rows.subset) == outcomes.subsets
    assert list(rows.cluster) == outcomes.clusters.tolist()


def test_a_right_answer_is_the_target_and_a_wrong_one_is_not(frame):
    chosen = frame[frame.choice.notna()]
    assert (
        len(chosen)
        and ((chosen.answer.astype(str) == chosen.target.astype(str)) == (chosen.score == 1)).all()
    )


def test_a_generated_answer_is_there_as_text(frame):
    generated = frame[frame.benchmark == "gsm8k"]
    assert generated.choice.isna().all() and generated.margin.isna().all()
    assert (generated[generated.score == 1].answer.str.startswith("The answer is")).all()


def test_the_margin_is_what_the_right_option_is_likelier_than_the_others(board, tmp_path):
    texts = ColumnTexts(
        questions=["p", "q"],
        choices=[["x", "y", "z"], ["u", "v"]],
        targets=[(1,), (0, 1)],
        chosen=np.array([[1, 0], [2, NOT_CHOSEN]], np.int16),
        loglikelihoods=np.array(
            [[[-3, -1, -2], [-1, -2, np.nan]], [[-5, -4.5, -1], [-1, -2, np.nan]]], np.float32
        ),
    )
    path = tmp_path / "items.parquet"
    items.write(first_column(board, [[1, 1], [0, 0]]), OneText(texts), path)
    rows = pq.read_table(path).to_pylist()
    assert [row["margin"] for row in rows] == [1.0, None, -3.5, None]
    assert [row["choice"] for row in rows] == [1, 0, 2, None]
    assert [row["answer"] for row in rows] == ["y", "u", "z", None]
    assert [row["target"] for row in rows] == ["y", "u | v", "y", "u | v"]
    assert [row["loglikelihoods"] for row in rows][:2] == [[-3.0, -1.0, -2.0], [-1.0, -2.0]]


def test_without_texts_the_scores_are_still_there(board, tmp_path):
    items.write(board, NoTexts(), tmp_path / "items.parquet")
    found = pandas.read_parquet(tmp_path / "items.parquet")
    assert found.score.notna().all() and found.answer.isna().all()


def test_a_row_group_holds_no_more_rows_than_the_bound(board, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(items, "ROWS", 70)
    items.write(board, texts, tmp_path / "items.parquet")
    file = pq.ParquetFile(tmp_path / "items.parquet")
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert max(groups) == 60 and sum(groups) == 8 * 9 * 30


def test_texts_of_others_have_no_control_characters(hostile, tmp_path):
    items.write(hostile, MadeTexts(hostile), tmp_path / "items.parquet")
    found = pandas.read_parquet(tmp_path / "items.parquet")
    assert "\x1b" not in "".join([*found.model, *found.column, *found.answer])


def test_a_failure_while_writing_leaves_the_file_as_it_was(board, texts, tmp_path):
    class Failing(NoTexts):
        def column(self, key):
            raise OSError("gone")

    path = tmp_path / "items.parquet"
    items.write(board, texts, path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="gone"):
        items.write(board, Failing(), path)
    assert path.read_bytes() == before
