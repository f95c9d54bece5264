"""Creates and locks a run's folder, and reports its file errors on one line."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from workbench.config import Config
from workbench.distributed import is_rank0
from workbench.errors import ConfigError, DeviceError, FolderInUseError, WorkbenchError
from workbench.file_errors import has_no_room, is_unusable, reason_for_no_room
from workbench.files import file_fingerprint, locked, write_json
from workbench.run_dir import RunDir, clear_unfinished
from workbench.run_record import RunRecord
from workbench.shipped import public_path


def check_config(record: RunRecord, run_dir: RunDir) -> None:
    """Check that config.yaml is the one whose checksum run.json records; without a checksum, do nothing.

    Raises:
        ConfigError: It was changed, or it was deleted and this command wrote another configuration.
    """
    digest = record.values.get("config")
    if digest is not None and file_fingerprint(run_dir.config_yaml) != digest:
        raise ConfigError(
            f"{run_dir.config_yaml}: was changed since the run wrote it (undo the change, or choose another "
            "run_dir)"
        )


@contextmanager
def reporting_file_errors(run_dir: RunDir) -> Iterator[None]:
    """Convert errors about files within the `with` block to a DeviceError of one line; others pass through.

    Raises:
        DeviceError: The disk is full, or a file can't be read or written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if has_no_room(error):
            reason = reason_for_no_room(error)
            raise DeviceError(
                f"{run_dir.path}: can't be written, {reason} (free space and repeat the command)"
            ) from error
        if not isinstance(error, OSError) or not is_unusable(error):
            raise
        raise DeviceError(
            f"{error.filename or run_dir.path}: can't be read or written: {error.strerror} "
            "(check its permissions and the length of its name, or choose another run_dir)"
        ) from error


@contextmanager
def locked_folder(run_dir: RunDir, *, only_reads: bool) -> Iterator[None]:
    """Create the run's folder and lock it against other processes within the `with` block.

    Unfinished output of a run that was killed is deleted. A new folder is deleted if the block raises a
    WorkbenchError before any step has written to it.

    Args:
        run_dir: The run.
        only_reads: Whether the run writes nothing there: then a read-only folder is not locked.

    Raises:
        FolderInUseError: Another process has locked the folder.
        ConfigError: The folder has other files but no run, or can't be created.
    """
    if only_reads and run_dir.config_yaml.is_file() and not os.access(run_dir.path, os.W_OK):
        yield
        return
    is_new = not run_dir.path.exists()
    check_own(run_dir)
    run_dir.check_links()
    make_folder(run_dir)
    with locked(run_dir.lock, wait=False) as is_locked:
        if not is_locked:
            raise FolderInUseError(
                f"run_dir: another process is using {str(run_dir.path)!r} (wait for it, or stop it)"
            )
        clear_unfinished(run_dir)
        try:
            yield
        except WorkbenchError:
            if is_new and set(run_dir.path.iterdir()) <= {run_dir.config_yaml, run_dir.lock}:
                shutil.rmtree(run_dir.path)
            raise


def record_failure(config: Config, run_dir: RunDir, reason: str) -> None:
    """Write failure.json into the run's folder, on rank 0: the model, and the reason why it wasn't scored."""
    if is_rank0() and not run_dir.failure_json.is_dir():
        adapter = config.adapter.path
        model = {
            "path": public_path(config.model.path),
            "adapter": public_path(adapter) if adapter else None,
            "quantization": config.quantization.method.value,
            "dtype": config.model.dtype.value,
        }
        run_dir.path.mkdir(parents=True, exist_ok=True)
        values = {"schema_version": 1, "name": run_dir.name, "model": model, "reason": reason}
        write_json(run_dir.failure_json, values)


def check_own(run_dir: RunDir) -> None:
    """Check that the folder is empty, new, or a run's, so that no step replaces other files.

    Raises:
        ConfigError: It has files, other than hidden ones and failure.json, but no config.yaml of a run.
    """
    if run_dir.config_yaml.exists() or not run_dir.path.is_dir():
        return
    own = run_dir.failure_json.name
    names = {file.name for file in run_dir.path.iterdir()} - {own}
    foreign = sorted(name for name in names if not name.startswith("."))
    if foreign:
        raise ConfigError(
            f"run_dir: {str(run_dir.path)!r} contains {foreign[0]!r} and no config.yaml, so it is not a run "
            "folder (name a new or empty one)"
        )


def make_folder(run_dir: RunDir) -> None:
    """Create the run's folder, if it doesn't exist.

    Raises:
        ConfigError: It can't be created.
        OSError: The disk is full.
    """
    try:
        run_dir.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if has_no_room(error):
            raise
        raise ConfigError(f"run_dir: {str(run_dir.path)!r} can't be created ({error.strerror})") from error
