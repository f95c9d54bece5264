"""A board that is made again where little has changed has the bytes of one that is made from nothing."""

import shutil

import pytest
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.records import read_predictions, write_predictions
from workbench.leaderboard import board_cache, page
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.leaderboard.items import answers, index
from workbench.leaderboard.items.run_texts import RunTexts
from workbench.leaderboard.outputs import writing
from workbench.run_dir import RunDir
from workbench.statistics import kept_results, paired


def specs(skill):
    """A benchmark of texts with several questions, a macro mean over subjects, and independent items."""
    right = {"base": 0.3, "adapter": skill}
    return [
        Spec("clustered", "en", 120, right, per_cluster=3),
        Spec("subjects", "zh", 90, right, subsets=("a", "b", "c"), average="macro"),
        Spec("plain", "zh", 80, right),
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of four runs, whose board keeps what it computes."""
    monkeypatch.setattr(index, "WORTHWHILE", 1)
    monkeypatch.setattr(kept_results, "WORTHWHILE", 1)
    for number in range(4):
        write(tmp_path / "runs", number, 0.4 + number / 10)
    return tmp_path / "runs"


def write(folder, number, skill, seed=0):
    run = folder / f"run{number}"
    write_run(run, specs(skill), seed=seed, weights=f"{number:x}" * 64, adapter=f"{number + 8:x}" * 64)


def files_of(folder):
    """Make the board of a folder, and return all its files but what is kept."""
    with board_cache.keeping(folder) as items:
        found = collect(folder)
        board = build(found, LeaderboardConfig(trained_for=["plain"]), items)
        texts = RunTexts(board, found.runs, items)
        page.write(board, texts, folder)
        writing.write_texts(board, texts, folder)
    assert board.differences and board.forgetting and not board.alarms
    names = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0][:3] != "run"
    ]
    return {
        path.name: path.read_bytes()
        for path in names
        if path.name not in (board_cache.INDEX, board_cache.RESULTS)
    }


def cold_files_of(folder, tmp_path):
    """Make the board of the same runs where nothing is kept."""
    copy = tmp_path / "copy" / "runs"
    shutil.copytree(
        folder, copy, ignore=shutil.ignore_patterns("leaderboard*", "*.csv", "*.parquet", ".l*", "every*")
    )
    return files_of(copy)


def change_an_answer(folder):
    files = RunDir(folder / "run2")
    path = files.predictions("adapter", "plain")
    first, *rest = read_predictions(path)
    object.__setattr__(first, "loglikelihoods", [-1.0, -2.0, -3.0, -4.0])
    write_predictions(path, [first, *rest])


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        pytest.param(lambda folder: None, True, id="nothing"),
        pytest.param(lambda folder: write(folder, 2, 0.9, seed=5), False, id="one run"),
        pytest.param(change_an_answer, False, id="the likelihoods of one answer"),
        pytest.param(lambda folder: write(folder, 7, 0.5), False, id="a run more"),
        pytest.param(lambda folder: shutil.rmtree(folder / "run1"), False, id="a run less"),
        pytest.param(
            lambda folder: (folder / board_cache.INDEX).write_bytes(b"?"), True, id="a damaged index"
        ),
        pytest.param(
            lambda folder: (folder / board_cache.RESULTS).write_bytes(b"?"), True, id="damaged tests"
        ),
    ],
)
def test_after_a_change_the_files_are_those_of_a_cold_board(change, is_same, folder, tmp_path):
    first = files_of(folder)
    assert (folder / board_cache.INDEX).is_file() and (folder / board_cache.RESULTS).is_file()
    change(folder)
    warm, cold = files_of(folder), cold_files_of(folder, tmp_path)
    assert warm.keys() == cold.keys() and len(warm) > 6
    assert [name for name in warm if warm[name] != cold[name]] == []
    assert (warm == first) == is_same


def test_only_what_a_changed_run_takes_part_in_is_read_and_tested_again(folder, monkeypatch):
    files_of(folder)
    write(folder, 2, 0.9, seed=5)
    read, tested = [], []
    read_items, sign_flip = answers.read_items, paired.sign_flip
    monkeypatch.setattr(
        "workbench.leaderboard.items.reading.read_items",
        lambda path, *more: (read.append(path.parts[-4]), read_items(path, *more))[1],
    )
    monkeypatch.setattr(paired, "sign_flip", lambda *inputs: (tested.append(1), sign_flip(*inputs))[1])
    files_of(folder)
    again = len(tested)
    tested.clear()
    (folder / board_cache.RESULTS).unlink()
    files_of(folder)
    assert set(read) == {"run2"} and 0 < again < len(tested)


def test_what_a_killed_board_left_of_its_kept_files_is_deleted(tmp_path):
    for name in (board_cache.INDEX, board_cache.RESULTS, board_cache.DIGESTS):
        (tmp_path / f".{name}.a1b2c3d4").write_bytes(b"half")
    with board_cache.keeping(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
