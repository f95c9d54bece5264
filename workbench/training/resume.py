"""Checkpoints that can be trusted: each has a manifest of checksums, looked at before it is used."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
from transformers import PreTrainedModel

from workbench.errors import ConfigError
from workbench.files import masked_json
from workbench.run_dir import read_json, write_json
from workbench.run_record import DIGEST, self_digest

log = logging.getLogger("workbench")

MANIFEST = "manifest.json"

METER: dict[str, Any] = {
    **dict.fromkeys(("tokens", "trained", "pieces"), int),
    **{"seconds": int | float, "losses": list, "validation_before": int | float | None},
}
"""The counters that a checkpoint holds, and their types."""

FOREIGN = "belongs to a training with other rows, settings or number of processes"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all as they were written."""

    path: Path
    step: int
    """Optimizer steps that it has behind it."""
    meter: dict[str, Any]
    """The counters at that step."""
    is_final: bool
    """No step comes after it."""


def seal(folder: Path, step: int, identity: str, meter: dict[str, Any], *, is_final: bool) -> None:
    """Write the manifest of a checkpoint that has just been written.

    Args:
        folder: The checkpoint.
        step: Optimizer steps behind it.
        identity: Of the training that it belongs to.
        meter: Counters to go on from.
        is_final: Whether the training ends with it.
    """
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}  # of every process
    manifest = {
        "schema_version": 1,
        "step": step,
        "is_final": is_final,
        "identity": identity,
        "meter": meter,
        "files": files,
    }
    manifest = masked_json(manifest)
    write_json(folder / MANIFEST, {**manifest, DIGEST: self_digest(manifest)})


def newest_good_checkpoint(
    folder: Path, identity: str, content_problem: Callable[[Checkpoint], str | None]
) -> Checkpoint | None:
    """The newest checkpoint of this training whose files are whole; None where there is none.

    Damaged ones are named in the log and deleted: the Trainer would count them when it decides which old
    ones to keep.

    Args:
        folder: Of the checkpoints.
        identity: Of the training.
        content_problem: Says of a checkpoint with whole files what in them can't be used; None: nothing.

    Raises:
        ConfigError: Whole ones of another training are there, which a new one would delete.
    """
    problems = {path: complaint(path, identity) for path in checkpoint_folders(folder)}
    for path, problem in problems.items():
        if problem == FOREIGN:
            raise ConfigError(
                f"{path}: {FOREIGN} (take those again, name another run_dir, or begin anew by force=true)"
            )
    newest: Checkpoint | None = None
    for path, problem in reversed(problems.items()):
        if problem is None and newest is None:
            manifest = read_json(path / MANIFEST)
            newest = Checkpoint(path, manifest["step"], manifest["meter"], manifest["is_final"])
            problem = content_problem(newest)
        if problem:
            log.warning("%s: %s; left out", path, problem)
            _delete(path)
            newest = newest if newest and newest.path != path else None
    return newest


def delete_checkpoints(folder: Path) -> None:
    """Delete the checkpoints in a folder, and nothing else."""
    for path in checkpoint_folders(folder):
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()  # of a link only the link: what it points at is not ours to delete


def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first; a copy under a name of the user's own is none."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[11:]))


def complaint(folder: Path, identity: str) -> str | None:
    """What is wrong with a checkpoint, or None."""
    if folder.is_symlink():
        return "is a link, not a checkpoint of this run"
    if not folder.is_dir():
        return "is a file, not a checkpoint"
    if not (folder / MANIFEST).is_file():
        return "was never finished"
    try:
        manifest = read_json(folder / MANIFEST)
    except ValueError:
        return f"{MANIFEST} is damaged"
    if not is_manifest(manifest, folder):
        return f"{MANIFEST} is damaged"
    for name, checksum in manifest["files"].items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256(folder / name) != checksum:
            return f"{name} is damaged"
    return None if manifest["identity"] == identity else FOREIGN


def is_manifest(value: Any, folder: Path) -> bool:
    """Whether a JSON value is what `seal` wrote into a checkpoint; an earlier version wrote no checksum."""
    types = {"step": int, "meter": dict, "is_final": bool, "files": dict, "identity": str}
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), kind) for key, kind in types.items())
        and folder.name == f"checkpoint-{value['step']}"
        and all(isinstance(checksum, str) for checksum in value["files"].values())
        and _is_meter(value["meter"])
        and (DIGEST not in value or value[DIGEST] == self_digest(value))
    )


def _is_meter(values: dict[str, Any]) -> bool:
    """Whether a JSON object holds counters of a training."""
    return (
        values.keys() <= METER.keys()
        and all(
            isinstance(value, METER[key]) and not isinstance(value, bool) for key, value in values.items()
        )
        and all(isinstance(loss, int | float) for loss in values.get("losses", []))
    )


def sha256(path: Path) -> str:
    """The checksum of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(model: PreTrainedModel | peft.PeftModel, folder: Path) -> None:
    """Put the trained weights of a checkpoint into the model, the adapter's or all."""
    if isinstance(model, peft.PeftModel):
        model.load_adapter(str(folder), model.active_adapter, is_trainable=True)
        return
    saved = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())


def last_sealed(folder: Path) -> str:
    """The name of the newest checkpoint that was written to its end, for a message."""
    sealed = [path.name for path in checkpoint_folders(folder) if (path / MANIFEST).is_file()]
    return sealed[-1] if sealed else "nothing yet"


def is_unsealed(folder: Path) -> bool:
    """Whether a checkpoint was begun and not written to its end."""
    return folder.is_dir() and not (folder / MANIFEST).is_file()
