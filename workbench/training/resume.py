"""Writes a manifest of checksums into each checkpoint, and finds the newest undamaged checkpoint."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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

COUNTER_TYPES: dict[str, Any] = {
    **dict.fromkeys(("tokens", "trained", "pieces"), int),
    **{"seconds": int | float, "losses": list, "validation_before": int | float | None},
}
"""Name of a counter in a manifest -> type of its value."""

HASHING_THREADS = 4
"""Number of a checkpoint's files that are hashed at a time: weights, optimizer state and random states."""

OTHER_TRAINING = "belongs to a training with other rows, settings or number of processes"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of the Trainer whose files match its manifest."""

    path: Path
    step: int
    """Number of optimizer steps that it was saved after."""
    counters: dict[str, Any]
    """Counters after that step, as `TrainCounters.state_dict` returns them."""
    is_final: bool
    """Whether this was the last step of the training."""


def write_manifest(
    folder: Path, step: int, identity: str, counters: dict[str, Any], *, is_final: bool
) -> None:
    """Write the manifest of a complete checkpoint: checksums of its files, counters and fingerprint.

    Args:
        folder: The checkpoint.
        step: Number of optimizer steps done.
        identity: Fingerprint of the training.
        counters: Counters to resume from.
        is_final: Whether this was the last step.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST]
    names = [path.relative_to(folder).as_posix() for path in paths]
    files = dict(zip(names, checksums(paths), strict=True))
    manifest = {
        "schema_version": 1,
        "step": step,
        "is_final": is_final,
        "identity": identity,
        "meter": counters,
        "files": files,
    }
    manifest = masked_json(manifest)
    write_json(folder / MANIFEST, {**manifest, DIGEST: self_digest(manifest)})


def newest_good_checkpoint(
    folder: Path, identity: str, content_problem: Callable[[Checkpoint], str | None]
) -> Checkpoint | None:
    """Return the newest undamaged checkpoint of this training; None: there is none.

    Damaged checkpoints are logged and deleted, because the Trainer would count them when it decides which old
    checkpoints to keep. Contents are checked from the newest on, until a checkpoint is good.

    Args:
        folder: Folder of the checkpoints.
        identity: Fingerprint of the training.
        content_problem: Returns what is wrong with the contents of a checkpoint that matches its manifest;
            None: nothing.

    Raises:
        ConfigError: The folder has checkpoints of another training, which this training would delete.
    """
    problems = {path: checkpoint_problem(path, identity) for path in checkpoint_folders(folder)}
    for path, problem in problems.items():
        if problem == OTHER_TRAINING:
            raise ConfigError(
                f"{path}: {OTHER_TRAINING} (restore them, use another run_dir, or start over with force=true)"
            )
    newest: Checkpoint | None = None
    for path, problem in reversed(problems.items()):
        if problem is None and newest is None:
            manifest = read_json(path / MANIFEST)
            newest = Checkpoint(path, manifest["step"], manifest["meter"], manifest["is_final"])
            problem = content_problem(newest)
        if problem:
            log.warning("%s: %s; deleted", path, problem)
            _delete(path)
            newest = newest if newest and newest.path != path else None
    return newest


def delete_checkpoints(folder: Path) -> None:
    """Delete the `checkpoint-STEP` entries of a folder; of a link only the link. Other files stay."""
    for path in checkpoint_folders(folder):
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()  # a link, without its target


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the `checkpoint-STEP` entries of a folder by step, the lowest first; also files and links."""
    paths = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]
    return sorted(paths, key=lambda path: int(path.name[11:]))


def checkpoint_problem(folder: Path, identity: str) -> str | None:
    """Return why a training can't use a checkpoint, such as `model.safetensors is damaged`; None: it can.

    Only the files' checksums are compared, not their contents with the model. A checkpoint of another
    training gives OTHER_TRAINING.

    Args:
        folder: The checkpoint.
        identity: Fingerprint of the training.

    Raises:
        OSError: The manifest can't be read.
    """
    if folder.is_symlink():
        return "is a link, not a checkpoint of this run"
    if not folder.is_dir():
        return "is a file, not a checkpoint"
    if not (folder / MANIFEST).is_file():
        return "is incomplete (no manifest)"
    try:
        manifest = read_json(folder / MANIFEST)
    except ValueError:
        return f"{MANIFEST} is damaged"
    if not is_manifest(manifest, folder):
        return f"{MANIFEST} is damaged"
    files = manifest["files"]
    if missing := next((name for name in files if not (folder / name).is_file()), None):
        return f"{missing} is missing"
    for name, checksum in zip(files, checksums([folder / name for name in files]), strict=True):
        if checksum != files[name]:
            return f"{name} is damaged"
    return None if manifest["identity"] == identity else OTHER_TRAINING


def is_manifest(value: Any, folder: Path) -> bool:
    """Return whether a JSON value is a valid manifest of the checkpoint in `folder`.

    The manifest's own checksum must fit; those of earlier versions without one are accepted.
    """
    types = {"step": int, "meter": dict, "is_final": bool, "files": dict, "identity": str}
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), kind) for key, kind in types.items())
        and folder.name == f"checkpoint-{value['step']}"
        and all(isinstance(checksum, str) for checksum in value["files"].values())
        and _are_counters(value["meter"])
        and (DIGEST not in value or value[DIGEST] == self_digest(value))
    )


def _are_counters(values: dict[str, Any]) -> bool:
    """Return whether a JSON object has the counters of a training, with values of the right types."""
    return (
        values.keys() <= COUNTER_TYPES.keys()
        and all(
            isinstance(value, COUNTER_TYPES[key]) and not isinstance(value, bool)
            for key, value in values.items()
        )
        and all(isinstance(loss, int | float) for loss in values.get("losses", []))
    )


def checksums(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file, as 64 hex digits; up to HASHING_THREADS files are read at a time."""
    with ThreadPoolExecutor(HASHING_THREADS) as threads:
        return list(threads.map(sha256, paths))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(model: PreTrainedModel | peft.PeftModel, folder: Path) -> None:
    """Load a checkpoint's weights into a model, in place: those of the active adapter, or all weights."""
    if isinstance(model, peft.PeftModel):
        model.load_adapter(str(folder), model.active_adapter, is_trainable=True)
        return
    saved = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())


def newest_complete_name(folder: Path) -> str:
    """Return the name of the newest checkpoint that has a manifest, or `nothing yet`, for a message."""
    names = [path.name for path in checkpoint_folders(folder) if (path / MANIFEST).is_file()]
    return names[-1] if names else "nothing yet"


def is_incomplete(folder: Path) -> bool:
    """Return whether `folder` is a checkpoint that was begun but not completed: it has no manifest."""
    return folder.is_dir() and not (folder / MANIFEST).is_file()
