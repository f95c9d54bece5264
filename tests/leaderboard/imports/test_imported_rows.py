"""Results of other tools as rows of the board, paired with each other by document and prompt."""

from imported_files import sample, write_harness
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.build import build
from workbench.leaderboard.imported_runs import collect_all


def board_of(tmp_path):
    write_harness(tmp_path / "one", {"quiz": [sample(n, float(n % 2)) for n in range(60)]})
    second = [sample(n, float(n % 6 != 0)) for n in range(60)]
    write_harness(tmp_path / "two", {"quiz": second}, model="org/two")
    return build(collect_all(tmp_path), LeaderboardConfig())


def test_models_of_another_tool_are_rows_that_are_tested(tmp_path):
    board = board_of(tmp_path)
    assert [model.role for model in board.models] == ["imported", "imported"] and board.alarms == ()
    [found] = board.differences
    assert (found.num_pairs, found.gained, found.lost) == (60, 20, 0) and found.verdict == "better"


def test_rows_are_named_by_model_and_know_their_tool(tmp_path):
    models = board_of(tmp_path).models
    assert [model.name for model in models] == ["one", "two"]
    assert {model.tool for model in models} == {"lm-evaluation-harness 0.4.13"}


def test_a_board_of_several_tools_names_them(tmp_path):
    write_run(tmp_path / "own", [Spec(right={"base": 0.4})])
    names = [model.name for model in board_of(tmp_path).models]
    assert any("lm-evaluation-harness" in name for name in names) and len(set(names)) == 3
