"""The run's folder: made, locked against a second process, and its file errors told in one line."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from workbench.errors import ConfigError, DeviceError, WorkbenchError
from workbench.file_errors import has_no_room, is_unusable, reason_for_no_room
from workbench.files import file_fingerprint, locked
from workbench.run_dir import RunDir, clear_unfinished
from workbench.run_record import RunRecord


def check_config(record: RunRecord, run_dir: RunDir) -> None:
    """Refuse a folder whose configuration isn't the one that its steps were made with.

    Raises:
        ConfigError: it was changed or replaced; or deleted, and this command's is another one.
    """
    digest = record.values.get("config")
    if digest is not None and file_fingerprint(run_dir.config_yaml) != digest:
        raise ConfigError(
            f"{run_dir.config_yaml}: not as the run wrote it (put it back, or choose another run_dir)"
        )


@contextmanager
def reporting_file_errors(run_dir: RunDir) -> Iterator[None]:
    """Turn a full disk, or a file that can't be read or written, into one line.

    Raises:
        DeviceError: the disk is full, or a file can't be used.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if has_no_room(error):
            reason = reason_for_no_room(error)
            raise DeviceError(
                f"{run_dir.path}: can't be written, {reason} (given room, the same command goes on)"
            ) from error
        if not isinstance(error, OSError) or not is_unusable(error):
            raise
        raise DeviceError(
            f"{error.filename or run_dir.path}: can't be used, {error.strerror} "
            "(the rights, the length of the name, what lies there; or another run_dir)"
        ) from error


@contextmanager
def alone_in(run_dir: RunDir, *, only_reads: bool) -> Iterator[None]:
    """Hold the run's folder against a second process with the same run.

    A new folder is gone again if a user's mistake ends the run before any step has written to it.

    Args:
        run_dir: The run.
        only_reads: Whether nothing is written there: then a folder that can't be written to is not held.

    Raises:
        ConfigError: another process is at work there.
    """
    if only_reads and run_dir.config_yaml.is_file() and not os.access(run_dir.path, os.W_OK):
        yield
        return
    new = not run_dir.path.exists()
    check_own(run_dir)
    run_dir.check_links()
    make_folder(run_dir)
    with locked(run_dir.lock, wait=False) as held:
        if not held:
            raise ConfigError(
                f"run_dir: another process is at work in {str(run_dir.path)!r} (wait for it, or stop it)"
            )
        clear_unfinished(run_dir)
        try:
            yield
        except WorkbenchError:
            if new and set(run_dir.path.iterdir()) <= {run_dir.config_yaml, run_dir.lock}:
                shutil.rmtree(run_dir.path)
            raise


def check_own(run_dir: RunDir) -> None:
    """Refuse a folder with files of somebody else's, some of which a step might replace.

    Raises:
        ConfigError: there are such files, and no config.yaml of a run.
    """
    if run_dir.config_yaml.exists() or not run_dir.path.is_dir():
        return
    foreign = sorted(file.name for file in run_dir.path.iterdir() if not file.name.startswith("."))
    if foreign:
        raise ConfigError(
            f"run_dir: {str(run_dir.path)!r} holds {foreign[0]!r} and no config.yaml, so it is not a run's "
            "folder (name a new or empty one)"
        )


def make_folder(run_dir: RunDir) -> None:
    """Make the run's folder.

    Raises:
        ConfigError: it can't be made there.
    """
    try:
        run_dir.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if has_no_room(error):
            raise
        raise ConfigError(f"run_dir: {str(run_dir.path)!r} can't be made ({error.strerror})") from error
