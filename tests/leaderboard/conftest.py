"""Fixtures of the leaderboard's tests."""

import pytest
from leaderboard_runs import Spec, write_run


@pytest.fixture
def runs(tmp_path):
    """A folder of two runs."""
    folder = tmp_path / "runs"
    write_run(folder / "quickstart", [Spec(), Spec(name="toy-reading-en", language="en")])
    flat = {"base": 0.3, "adapter": 0.32, "merged": 0.32}
    write_run(folder / "quickstart-0badcafe", [Spec(right=flat), Spec(name="常识问答", right=flat)], seed=3)
    return folder
