"""Checksums of files of predictions that are kept between two boards: nothing that changes goes unnoticed."""

import os

import pytest
from leaderboard_runs import Spec, write_run

from workbench.config.leaderboard import LeaderboardConfig
from workbench.evaluation.result_checksums import facts_digest, score_digests
from workbench.files import file_fingerprint, read_json, write_json
from workbench.leaderboard import file_digests
from workbench.leaderboard.board_cache import keeping
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import collect
from workbench.leaderboard.file_digests import file_digest, keeping_digests
from workbench.leaderboard.items import index
from workbench.run_record import DIGEST, self_digest


@pytest.fixture
def settled(monkeypatch):
    """Keep digests of few files too, and of files that have just been written."""
    monkeypatch.setattr(file_digests, "WORTHWHILE", 1)
    monkeypatch.setattr(file_digests, "SETTLED_NANOSECONDS", -(10**12))


@pytest.fixture
def reads(monkeypatch):
    """The files that are read, in order."""
    paths = []
    monkeypatch.setattr(
        file_digests, "file_fingerprint", lambda path: (paths.append(path.name), file_fingerprint(path))[1]
    )
    return paths


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "runs" / "predictions.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"right")
    return path


def digests_of(file, times=1):
    """The digests of a file from several blocks, which keep what they know."""
    found = []
    for _ in range(times):
        with keeping_digests(file.parent / ".digests"):
            found.append(file_digest(file))
    return found


def test_an_unchanged_file_is_read_once(file, settled, reads):
    assert digests_of(file, 3) == [file_fingerprint(file)] * 3 and reads == [file.name]


def test_a_file_that_was_just_written_is_read_each_time(file, monkeypatch, reads):
    monkeypatch.setattr(file_digests, "WORTHWHILE", 1)
    digests_of(file, 3)
    assert len(reads) == 3 and not (file.parent / ".digests").exists()


def rewritten(file):
    with file.open("r+b") as handle:
        handle.write(b"wrong")


def replaced(file):
    other = file.with_suffix(".new")
    other.write_bytes(b"wrong")
    os.replace(other, file)


def exchanged(file):
    """Two files of one size that have changed names."""
    other = file.with_suffix(".new")
    other.write_bytes(b"wrong")
    os.rename(file, file.with_suffix(".old"))
    os.rename(other, file)


@pytest.mark.parametrize("change", [rewritten, replaced, exchanged])
def test_a_change_that_keeps_size_and_time_is_noticed(change, file, settled):
    [before] = digests_of(file)
    status = os.stat(file)
    change(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(file).st_mtime_ns == status.st_mtime_ns and os.stat(file).st_size == status.st_size
    assert digests_of(file) == [file_fingerprint(file)] != [before]


def test_a_file_that_changes_while_it_is_read_is_read_again(file, settled, monkeypatch):
    def slow(path):
        digest = file_fingerprint(path)
        rewritten(path)
        return digest

    monkeypatch.setattr(file_digests, "file_fingerprint", slow)
    digests_of(file)
    monkeypatch.setattr(file_digests, "file_fingerprint", file_fingerprint)
    assert digests_of(file) == [file_fingerprint(file)]


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-2], lambda data: data.replace(b"0", b"1")]
)
def test_damaged_digests_are_made_again(damage, file, settled, reads):
    digests_of(file)
    kept = file.parent / ".digests"
    written = kept.read_bytes()
    kept.write_bytes(damage(written))
    assert digests_of(file) == [file_fingerprint(file)]
    assert len(reads) == 2 and kept.read_bytes() == written


def test_digests_of_files_that_are_gone_are_dropped(file, settled):
    other = file.with_name("other.jsonl")
    other.write_bytes(b"other")
    kept = file.parent / ".digests"
    with keeping_digests(kept):
        file_digest(file), file_digest(other)
    assert kept.read_text().count(file_fingerprint(other)) == 1
    digests_of(file)
    assert kept.read_text().count(file_fingerprint(other)) == 0


def test_outside_of_a_block_every_file_is_read(file):
    assert file_digest(file) == file_fingerprint(file)


def recorded(files):
    """Give a run the checksums of its scores and predictions."""
    steps = {
        f"evaluate/{model}/{name}": {
            "inputs": "0" * 64,
            "output": file_fingerprint(files.predictions(model, name)),
            "scores": digest,
        }
        for (model, name), digest in score_digests(files.results_json).items()
    }
    values = {"schema_version": 1, "steps": steps, "results": facts_digest(read_json(files.results_json))}
    write_json(files.run_json, {**values, DIGEST: self_digest(values)})


def test_a_board_that_is_made_again_notices_one_answer_that_was_changed_in_place(
    tmp_path, settled, monkeypatch
):
    monkeypatch.setattr(index, "WORTHWHILE", 1)
    spec = Spec(right={"base": 0.3, "adapter": 0.5})
    files = write_run(tmp_path / "run", [spec])
    recorded(files)

    def problems():
        with keeping(tmp_path) as items:
            return [
                difference.problem
                for difference in build(collect(tmp_path), LeaderboardConfig(), items).differences
            ]

    assert problems() == problems() == [""]
    path = files.predictions("adapter", spec.name)
    status, data = os.stat(path), path.read_bytes()
    assert b"-6.5" in data
    path.write_bytes(data.replace(b"-6.5", b"-7.5", 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    [problem] = problems()
    name = f"predictions/adapter/{spec.name}.jsonl"
    assert problem == f"predictions can't be read: {name}: was changed since it was written"
