"""How files are written: never through links, known by their content, and full disks recognised."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workbench.cli.leftovers import compiler_cache, remove_if_empty
from workbench.errors import DataError, first_line
from workbench.file_errors import has_no_room, reason_for_no_room
from workbench.files import (
    append,
    append_bytes,
    clear_the_way,
    end_last_line,
    local_path,
    locked,
    open_to_append,
    parse_json,
    settle_file,
    write_atomic,
)
from workbench.folders import new_folder, settle_folder


@pytest.mark.parametrize("count", [100, 100_000])
def test_torch_that_cannot_write_for_want_of_room_is_understood(count):
    with pytest.raises(RuntimeError) as caught:
        torch.save({"a": torch.zeros(count)}, "/dev/full")
    assert has_no_room(caught.value)
    assert reason_for_no_room(caught.value) == "no space left on device, or a limit on file sizes"


def test_a_damaged_file_of_torch_is_no_full_disk(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:2000])
    with pytest.raises(RuntimeError) as caught:
        torch.load(tmp_path / "a.pt", weights_only=True)
    assert not has_no_room(caught.value)


@pytest.mark.parametrize(
    "write", [lambda path: append_bytes(path, b"x"), lambda path: locked(path, wait=False).__enter__()]
)
def test_what_is_added_to_is_never_the_target_of_a_link(tmp_path, write):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for target in (outside, tmp_path / "nothing"):
        (tmp_path / "link").symlink_to(target)
        with pytest.raises(DataError, match="is a link where a file must be written"):
            write(tmp_path / "link")
        (tmp_path / "link").unlink()
    assert outside.read_text() == "mine" and not (tmp_path / "nothing").exists()


OTHER_PROCESS = """
import sys
from pathlib import Path
from workbench.files import locked
from workbench.folders import settle_folder
settle_folder(Path(sys.argv[1]) / "merged")
with locked(Path(sys.argv[1]) / "lock", wait=False) as is_held:
    print(is_held)
"""


def of_another_process(folder):
    command = [sys.executable, "-c", OTHER_PROCESS, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path):
    with locked(tmp_path / "lock", wait=False) as is_held:
        assert is_held and of_another_process(tmp_path) == "False"
    assert of_another_process(tmp_path) == "True"


def test_a_folder_that_is_being_written_is_left_alone_and_a_forgotten_one_deleted(tmp_path):
    (tmp_path / ".merged.abcd1234").mkdir()
    with new_folder(tmp_path / "merged") as temporary:
        (temporary / "weights").write_text("whole")
        of_another_process(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["merged"]
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["weights"]


@pytest.mark.parametrize("failing", ["merged to aside", "new to merged"])
def test_a_folder_that_cannot_be_replaced_stays_as_it_was(tmp_path, monkeypatch, failing):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "weights").write_text("old")
    rename = os.replace

    def replace(source, target):
        """Rename, but fail once as a full or vanished disk does."""
        if (Path(target).name == "merged") and (Path(source).name == "merged") is (
            failing == "merged to aside"
        ):
            monkeypatch.setattr(os, "replace", rename)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output error"), new_folder(tmp_path / "merged") as temporary:
        (temporary / "weights").write_text("new")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["merged"]
    assert (tmp_path / "merged" / "weights").read_text() == "old"


def test_a_line_that_a_killed_process_left_without_an_end_is_cut_off(tmp_path):
    for content, kept in ((b"a\nbc", b"a\n"), (b"a\n", b"a\n"), (b"bc", b""), (b"", b"")):
        (tmp_path / "lines").write_bytes(content)
        descriptor = open_to_append(tmp_path / "lines")
        end_last_line(descriptor)
        append(descriptor, b"d\n")
        os.close(descriptor)
        assert (tmp_path / "lines").read_bytes() == kept + b"d\n"


def test_what_is_written_anew_takes_the_place_of_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "a").symlink_to(outside)
    (tmp_path / "b").symlink_to(outside)
    write_atomic(tmp_path / "a", "ours")
    clear_the_way(tmp_path / "b").write_text("ours")
    assert (
        outside.read_text() == "mine"
        and (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "ours"
    )
    (tmp_path / "c").mkdir()
    for refuse in (lambda: write_atomic(tmp_path / "c", "x"), lambda: clear_the_way(tmp_path / "c")):
        with pytest.raises(DataError, match="is a folder where a file must be written"):
            refuse()


def test_clearing_up_after_a_killed_process_follows_no_link(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").write_text("mine")
    (tmp_path / ".merged.abcd1234").symlink_to(tmp_path / "outside")
    (tmp_path / ".merged.old.abcd1234").symlink_to(tmp_path / "outside")
    (tmp_path / ".run.json.abcd1234").symlink_to(tmp_path / "outside" / "mine")
    settle_folder(tmp_path / "merged")
    settle_file(tmp_path / "run.json")
    assert (tmp_path / "outside" / "mine").read_text() == "mine"
    assert not os.path.lexists(tmp_path / ".run.json.abcd1234")


def test_json_that_is_nested_too_deeply_is_a_plain_mistake():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


def test_the_folder_of_torchs_compiler_is_where_torch_makes_it():
    code = "from torch._inductor.runtime.cache_dir_utils import default_cache_dir; print(default_cache_dir())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert Path(said.strip()) == compiler_cache()


def test_a_folder_is_deleted_only_where_nothing_lies_in_it(tmp_path):
    (tmp_path / "empty").mkdir()
    remove_if_empty(tmp_path / "empty")
    remove_if_empty(tmp_path / "none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kernel").write_text("x")
    remove_if_empty(tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_an_error_is_told_by_its_first_line_or_without_a_message_by_its_type():
    assert first_line(ValueError("\nno such header.\nIn line 3\n")) == "no such header"
    assert first_line(KeyError("loftq_iter")) == "KeyError: 'loftq_iter'"
    assert first_line(TimeoutError()) == first_line(TimeoutError(" \n")) == "TimeoutError"


def test_a_path_of_a_user_that_there_is_not_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/us")
    assert local_path("~/rows.csv") == Path("/home/us/rows.csv")
    assert local_path("~nobody-of-this-name/rows.csv") == Path("~nobody-of-this-name/rows.csv")


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_files_and_folders_have_the_rights_that_the_umask_leaves(tmp_path, mask, file_mode, folder_mode):
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "a.json", "{}")
        append_bytes(tmp_path / "b.jsonl", b"{}")
        with new_folder(tmp_path / "c") as folder:
            (folder / "d").mkdir()
            (folder / "d" / "e.safetensors").write_bytes(b"")
            (folder / "d" / "e.safetensors").chmod(0o600)
    finally:
        assert os.umask(before) == mask
    modes = {
        path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")
    }
    files = dict.fromkeys(["a.json", "b.jsonl", "c/d/e.safetensors"], file_mode)
    assert modes == {**files, "c": folder_mode, "c/d": folder_mode}


def test_a_file_that_can_not_be_written_is_named_and_not_its_temporary_name(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_atomic(tmp_path / "leaderboard.html", "page")
    assert caught.value.filename == str(tmp_path / "leaderboard.html") and not list(tmp_path.iterdir())
    assert str(caught.value).endswith("leaderboard.html'")
    with pytest.raises(OSError) as caught:
        write_atomic(Path("/proc/leaderboard.html"), "page")
    assert caught.value.filename == "/proc/leaderboard.html"


def test_what_a_killed_process_left_is_deleted_and_named_with_its_size(tmp_path, caplog):
    caplog.set_level("INFO", logger="workbench")
    leftovers = [tmp_path / ".merged.abcd1234", tmp_path / ".merged.old.abcd1234"]
    for leftover in leftovers:
        (leftover / "merged").mkdir(parents=True)
        (leftover / "merged" / "model.safetensors").write_bytes(bytes(30_000_000))
    (tmp_path / "merged").mkdir()
    settle_folder(tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    for leftover in leftovers:
        assert f"{leftover}: deleted, a process that was killed had left it (0.03 GB)" in caplog.text
