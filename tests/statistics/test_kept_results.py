"""Results of slow tests that are kept between two boards."""

import json

import numpy as np
import pytest

from workbench.statistics import kept_results
from workbench.statistics.kept_results import keeping_results, kept
from workbench.statistics.paired import compare_paired

VALUES = np.array([0.5, -0.25, 1.0])


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The path of a file that is written for few results too."""
    monkeypatch.setattr(kept_results, "WORTHWHILE", 1)
    return tmp_path / "results"


class Computation:
    """A computation that counts its calls."""

    def __init__(self):
        self.calls = 0

    def of(self, *inputs, purpose="test"):
        def compute():
            self.calls += 1
            return [float(np.sum(value)) for value in inputs]

        return kept(purpose, inputs, compute)


def test_the_same_inputs_are_computed_once_over_two_blocks_to_the_last_bit(path):
    computation = Computation()
    for _ in range(2):
        with keeping_results(path):
            assert computation.of(VALUES / 3, 0.1) == [float(np.sum(VALUES / 3)), 0.1]
    assert computation.calls == 1


@pytest.mark.parametrize(
    ("inputs", "purpose"),
    [
        ((VALUES, 0.2), "test"),
        ((VALUES + 1e-15, 0.1), "test"),
        ((VALUES[::-1], 0.1), "test"),
        ((VALUES[:2], 0.1), "test"),
        ((VALUES.astype(np.float32), 0.1), "test"),
        ((VALUES, 0.1), "another test"),
    ],
)
def test_other_inputs_are_computed(path, inputs, purpose):
    computation = Computation()
    with keeping_results(path):
        computation.of(VALUES, 0.1)
    with keeping_results(path):
        computation.of(*inputs, purpose=purpose)
    assert computation.calls == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data.replace(b"1.35", b"1.34"),
        lambda data: b"\xff" + data,
        lambda data: b"[]\n[]",
    ],
)
def test_a_damaged_file_is_made_again(path, damage):
    computation = Computation()
    with keeping_results(path):
        computation.of(VALUES, 0.1, 1.35)
    written = path.read_bytes()
    assert b"1.35" in written
    path.write_bytes(damage(written))
    with keeping_results(path):
        assert computation.of(VALUES, 0.1, 1.35) == [1.25, 0.1, 1.35]
    assert computation.calls == 2 and path.read_bytes() == written


def test_results_of_another_program_are_not_used(path, monkeypatch):
    computation = Computation()
    with keeping_results(path):
        computation.of(VALUES)
    monkeypatch.setattr(kept_results, "program_digest", lambda: "another")
    with keeping_results(path):
        computation.of(VALUES)
    assert computation.calls == 2 and json.loads(path.read_text().partition("\n")[2])["program"] == "another"


def test_the_program_is_every_source_file_of_the_package(monkeypatch, tmp_path):
    sources = {path.name: path.read_bytes() for path in kept_results.PACKAGE.glob("*.py")}
    for name, data in sources.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(kept_results, "PACKAGE", tmp_path)
    digests = {kept_results.program_digest.__wrapped__()}
    assert digests == {kept_results.program_digest()}
    for name in sources:
        (tmp_path / name).write_bytes(sources[name] + b"#")
        digests.add(kept_results.program_digest.__wrapped__())
        (tmp_path / name).write_bytes(sources[name])
    assert len(digests) == 1 + len(sources)


def test_what_a_block_does_not_use_is_dropped(path):
    computation = Computation()
    with keeping_results(path):
        computation.of(VALUES)
        computation.of(VALUES, 1.0)
    with keeping_results(path):
        computation.of(VALUES)
    assert len(json.loads(path.read_text().partition("\n")[2])["results"]) == 1


def test_a_block_that_fails_writes_nothing(path):
    with pytest.raises(KeyError), keeping_results(path):
        Computation().of(VALUES)
        raise KeyError
    assert not path.exists()


def test_few_results_are_not_written(tmp_path):
    with keeping_results(tmp_path / "results"):
        Computation().of(VALUES)
    assert not (tmp_path / "results").exists()


def test_a_kept_sign_flip_test_is_the_computed_one(path):
    dice = np.random.default_rng(0)
    first, second = dice.random((2, 60)), dice.random((2, 60))
    computed = [compare_paired(*pair, alpha=0.01) for pair in zip(first, second, strict=True)]
    for _ in range(2):
        with keeping_results(path):
            assert [compare_paired(*pair, alpha=0.01) for pair in zip(first, second, strict=True)] == computed
    assert len(json.loads(path.read_text().partition("\n")[2])["results"]) == 2
