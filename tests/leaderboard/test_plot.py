"""Axes."""

import pytest

from workbench.leaderboard.plot import axis


@pytest.mark.parametrize(
    ("values", "narrowest", "low", "high"),
    [
        ([0.25, 0.81], 0.2, 0.2, 1.0),
        ([0.41, 0.44], 0.2, 0.3, 0.55),
        ([0.98, 1.0], 0.2, 0.85, 1.0),
        ([0.0], 0.2, 0.0, 0.1),
    ],
)
def test_an_axis_of_shares_holds_the_values_between_round_ends(values, narrowest, low, high):
    found = axis(values, narrowest, 0.0, 1.0)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert 0.0 <= found.low <= min(values) and max(values) <= found.high <= 1.0
    assert found.high - found.low >= narrowest / 2
    assert 3 <= len(found.ticks) <= 7


@pytest.mark.parametrize("values", [[3.2, 18.9], [1e-9, 1e-9], [0.0], [1200.0, 1250.5], [-4.0, 2.0]])
def test_an_axis_of_anything_holds_the_values(values):
    found = axis(values, max(values) - min(values) or 1.0)
    assert found.low <= min(values) and max(values) <= found.high
    assert all(0 <= found.x(value) <= 100 for value in [*values, *found.ticks])
