"""How comparisons that ask until they are decided were stopped, from compare.json to the board."""

import json

import pytest
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard.board import WORSE
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.run_record import self_digest

DECISION = {
    "benchmark": "cmmlu",
    "metric": "acc",
    "decision": "lower",
    "difference": -0.12,
    "num_clusters": 300,
    "num_decided": 300,
    "num_asked": 320,
    "num_total": 11582,
    "verdict": "worse",
    "stopped": "decided after 300 of 11,582 items: worse",
}


def comparison(**changes):
    """A compare.json of compare.until=decided: a base against the adapter of a run."""
    sides = {
        "a": {"model": "base", "name": "base", "weights": "ef" * 32, "adapter": None, "quantization": "nf4"},
        "b": {
            "model": "x",
            "name": "adapter",
            "weights": "ef" * 32,
            "adapter": "0" * 64,
            "quantization": "nf4",
        },
    }
    values = {"schema_version": 1, "until": "decided", **sides, "alpha": 0.05, "alpha_each": 0.025}
    return {**values, "margin": None, "seed": 3, "decisions": [DECISION], **changes}


def board_of(folder, values):
    write_run(folder / "run", [Spec(right={"base": 0.3, "adapter": 0.5})])
    path = folder / "two" / "compare.json"
    path.parent.mkdir()
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return build(collect(folder), LeaderboardConfig())


def test_a_decision_is_on_the_board_with_the_rows_that_it_compared(tmp_path):
    board = board_of(tmp_path, comparison())
    [decision] = board.decisions
    base = next(model for model in board.models if model.role == "base")
    assert (decision.first, decision.second, decision.second_name) == (base.key, "", "x")
    assert (decision.num_decided, decision.num_asked, decision.num_total) == (300, 320, 11582)
    assert (decision.verdict, decision.difference, decision.alpha) == (WORSE, -0.12, 0.025)
    assert (decision.seed, decision.margin, decision.source) == (3, None, "two/compare.json")
    assert board.skipped == ()


def test_a_decision_that_was_changed_since_it_was_written_is_named_and_not_shown(tmp_path):
    values = comparison()
    values["digest"] = self_digest(values)
    values["alpha_each"] = 0.01
    board = board_of(tmp_path, values)
    assert board.decisions == ()
    assert [file.reason for file in board.skipped] == ["compare.json: was changed since it was written"]


def test_a_comparison_of_results_that_were_there_stopped_nowhere(tmp_path):
    board = board_of(tmp_path, {"schema_version": 1, "a": {}, "b": {}, "comparisons": [], "left_out": {}})
    assert board.decisions == () and board.skipped == ()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("{", "line 1"),
        ([], "not a comparison of two models"),
        (comparison(a=None), "not a comparison of two models"),
        (comparison(decisions=[7]), "not a comparison of two models"),
        (comparison(decisions=[{**DECISION, "verdict": "<b>"}]), "not a comparison of two models"),
        (comparison(decisions=[{**DECISION, "verdict": "better"}]), "verdict is 'better'"),
        (comparison(alpha_each="5%"), "alpha_each is '5%'"),
        (comparison(margin=float("nan")), "margin is nan"),
        (comparison(seed=True), "seed is True"),
        (comparison(decisions=[{**DECISION, "num_asked": 200}]), "num_asked is 200"),
        (comparison(decisions=[{**DECISION, "benchmark": None}]), "benchmark is None"),
    ],
)
def test_an_odd_file_is_named_and_skipped(values, reason, tmp_path):
    board = board_of(tmp_path, values)
    [skipped] = board.skipped
    assert skipped.path == "two/compare.json" and reason in skipped.reason
    assert board.decisions == () and len(board.models) == 2
