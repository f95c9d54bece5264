"""The tests that the page itself computes, against scipy."""

import itertools
import json
import shutil
import subprocess

import numpy as np
import pytest
from scipy import stats

from workbench.leaderboard.page.bundle import HERE
from workbench.statistics.binary_pairs import compare_flips

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node.js")


def computed(expression, values, module="mcnemar"):
    """Return the results of a JavaScript expression of `m` (the module) and `x`, for each x of `values`."""
    code = f"import * as m from {json.dumps((HERE / 'js' / f'{module}.js').as_uri())};\n"
    code += f"console.log(JSON.stringify({json.dumps(values)}.map((x) => {expression})))"
    result = subprocess.run(
        [NODE, "--input-type=module", "--no-warnings", "-e", code], capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)


PAIRS = [(0, 0), (1, 0), (0, 7), (3, 9), (50, 50), (60, 40), (140, 90), (1700, 1400), (0, 900), (5000, 6582)]


def test_mcnemars_p_value_is_scipys_down_to_the_smallest():
    found = computed("m.logMcNemar(x[0], x[1])", PAIRS)
    for (gained, lost), log_p in zip(PAIRS, found, strict=True):
        count, smaller = gained + lost, min(gained, lost)
        expected = 0.0 if not count else float(stats.binom.logcdf(smaller, count, 0.5) + np.log(2))
        assert log_p == pytest.approx(min(0.0, expected), rel=1e-8, abs=1e-8)
        if count and (p_value := stats.binomtest(gained, count).pvalue) > 0:
            assert np.exp(log_p) == pytest.approx(p_value, rel=1e-7)


def test_the_interval_is_scipys_exact_one():
    found = computed("m.clopperPearson(x[0], x[0] + x[1], 0.95)", PAIRS[1:])
    for (gained, lost), interval in zip(PAIRS[1:], found, strict=True):
        expected = stats.binomtest(gained, gained + lost).proportion_ci(0.95, "exact")
        assert interval == pytest.approx([expected.low, expected.high], abs=1e-9)


def test_the_interval_of_a_difference_excludes_zero_where_the_test_does():
    pairs = [(gained, lost) for gained in range(0, 40, 3) for lost in range(0, 40, 3)]
    found = computed("[m.logMcNemar(x[0], x[1]), ...m.differenceInterval(x[0], x[1], 100)]", pairs)
    for log_p, low, high in found:
        assert (np.exp(log_p) < 0.05) == (low > 0 or high < 0)


def test_the_interval_of_a_difference_is_that_of_the_board():
    pairs = [(gained, lost) for gained in range(0, 60, 7) for lost in range(0, 60, 7)]
    found = computed("m.differenceInterval(x[0], x[1], 150)", pairs)
    gained, lost = np.array(pairs).T
    expected = compare_flips(gained, lost, 150, 0.05)
    assert np.array(found) == pytest.approx(np.stack([expected.low, expected.high], axis=1), abs=1e-9)


def test_the_sign_flip_test_counts_all_signs():
    samples = [[1, 1, 1, -1], [3, -1, 2, 2, 0], [5, 5, -5, 1, 1, 1, 2], [0, 0], [4]]
    for values, p_value in zip(samples, computed("m.signFlip(x)", samples), strict=True):
        signs = itertools.product((-1, 1), repeat=len(values))
        sums = [abs(sum(sign * value for sign, value in zip(one, values, strict=True))) for one in signs]
        assert p_value == pytest.approx(np.mean([total >= abs(sum(values)) for total in sums]))


def test_the_sign_flip_test_of_single_items_is_mcnemars():
    values = [1] * 60 + [-1] * 40
    assert computed("m.signFlip(x)", [values]) == pytest.approx([stats.binomtest(60, 100).pvalue])


def test_a_p_value_is_never_zero_and_has_one_digit():
    p_values = [1, 0.0999, 0.01, 0.00096, 2.4e-7, 9.7e-20]
    texts = computed("m.pText(Math.log(x))", [*p_values, 0], "numbers")
    assert texts == ["1.00", "0.100", "0.010", "1e−3", "2e−7", "1e−19", "< 1e−300"]


def test_numbers_have_a_real_minus_and_zero_has_no_sign():
    values = [-0.123, 0.0004, -0.0004, 0.25]
    assert computed("m.changeText(x, true)", values, "numbers") == ["−12.3", "0.0", "0.0", "+25.0"]
    assert computed("m.scoreText(x, false)", [-1.23456, None], "numbers") == ["−1.235", "–"]


def test_percents_are_rounded_as_the_terminal_rounds_them():
    shares = [number / 400 for number in range(401)] + [number / 1319 for number in range(0, 1319, 7)]
    assert computed("m.scoreText(x, true)", shares, "numbers") == [f"{100 * share:.1f}" for share in shares]


def test_a_p_value_that_is_only_bounded_says_so():
    tests = [{"test": "sign-flip-exact", "p_value": 1e-15, "p_adjusted": 4e-14}]
    tests.append({"test": "mcnemar-exact", "p_value": 1e-15, "p_adjusted": 4e-14})
    assert computed("m.adjustedText(x)", tests, "numbers") == ["≤ 4e−14", "4e−14"]
