"""The name of every file that a run writes, and how files are written: whole or not at all."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, DataError
from workbench.shown import masked


@dataclass(frozen=True)
class RunDir:
    """The folder of one run. Steps talk to each other through these files only."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name: the folder's own."""
        return self.path.name

    @property
    def config_yaml(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        """Versions, machine, and everything measured; also the fingerprints of finished steps."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Training checkpoints, to resume from."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The trained adapter, in PEFT's format."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The trained model itself, where there is no adapter (`adapter=none`)."""
        return self.path / "model"

    @property
    def tokenizer(self) -> Path:
        """A tokenizer learned from text."""
        return self.path / "tokenizer"

    @property
    def extended(self) -> Path:
        """The base model with a larger vocabulary, to be tuned like any other."""
        return self.path / "extended"

    @property
    def export(self) -> Path:
        """A model's folder in another tool's format."""
        return self.path / "export"

    @property
    def export_gguf(self) -> Path:
        """The same as one file."""
        return self.path / "export.gguf"

    @property
    def train_jsonl(self) -> Path:
        """One line a logged training step."""
        return self.path / "train.jsonl"

    @property
    def train_json(self) -> Path:
        """What was trained on what, without measured values."""
        return self.path / "train.json"

    @property
    def held_out_jsonl(self) -> Path:
        """The rows that training held out, by which the models are compared; one a line."""
        return self.path / "held_out.jsonl"

    @property
    def merged(self) -> Path:
        """The merged model, published only after its proof."""
        return self.path / "merged"

    @property
    def merge_report(self) -> Path:
        """The proof of the merge."""
        return self.path / "merge_report.json"

    @property
    def results_json(self) -> Path:
        """All scores of this run."""
        return self.path / "results.json"

    @property
    def cache(self) -> Path:
        """Answers already had, so that an interrupted evaluation continues."""
        return self.path / "cache"

    @property
    def lock(self) -> Path:
        """Held while a process works in the folder."""
        return self.path / ".lock"

    def predictions(self, model: str, benchmark: str) -> Path:
        """One line an item, for one model (base, adapter, merged) on one benchmark."""
        return self.path / "predictions" / model / f"{benchmark}.jsonl"


MODEL_CARD = "README.md"
"""Of a model's folder: says what the model scored, and isn't part of it."""

MEASURED_WITH = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "open-llama-workbench")


class RunRecord:
    """run.json: which steps are finished, made from what, and everything that was measured on the way."""

    def __init__(self, path: Path) -> None:
        """Read the record at `path`, or begin one.

        Raises:
            DataError: it is damaged.
        """
        self.path = path
        self.values: dict[str, Any] = {"schema_version": 1, "steps": {}}
        if path.is_file():
            self.values |= _record(path)

    def is_finished(self, step: str, inputs: str, output: Path) -> bool:
        """Whether `step` was made from inputs of this fingerprint, and what it made lies there unchanged."""
        found = self.values["steps"].get(step)
        if found is None or found["inputs"] != inputs or not output.exists():
            return False
        return bool(found["output"] == file_fingerprint(output))

    def finish(self, step: str, inputs: str, output: Path, measured: Mapping[str, Any]) -> None:
        """Remember that `step` made `output` from these inputs, and what was measured."""
        self.values["versions"] = {name: _version(name) for name in MEASURED_WITH}
        self.values["machine"] = {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
        }
        self.values["steps"][step] = {"inputs": inputs, "output": file_fingerprint(output)}
        place = self.values
        *parents, last = step.split("/")
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = dict(measured)
        write_json(self.path, self.values)


def _record(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
        if isinstance(values, dict) and isinstance(values.get("steps"), dict):
            return values
        reason = "it has no steps"
    except ValueError as error:
        reason = str(error)
    raise DataError(f"{path}: not the record of a run ({reason}; without the file its steps are repeated)")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it into place; secrets masked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = masked(content).encode("utf-8") if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def has_no_room(error: BaseException) -> bool:
    """Whether an error says that the disk, or the share of it that the user may have, is full."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    said = any(f"(os error {number})" in str(error) for number in full)  # by libraries written in Rust
    return said or (isinstance(error, OSError) and error.errno in full)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented UTF-8 JSON, atomically and with a stable order of keys as given."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file that this project wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def part_of(path: Path) -> Path:
    """Where a large file is written until it is whole; a killed process's next try writes it anew."""
    return path.with_name(f".{path.name}.part")


LONGEST_NAME = 255
"""Bytes of a file's or folder's name that file systems take."""

LONGEST_PATH = 4096
"""Bytes of a whole path."""


def check_folder(key: str, path: Path) -> None:
    """Raise ConfigError where a file lies at `path`, which `key` names, or above it, or no folder can be."""
    too_long = [part for part in path.parts if len(os.fsencode(part)) > LONGEST_NAME]
    if too_long or len(os.fsencode(path)) > LONGEST_PATH:
        name = too_long[0] if too_long else str(path)
        size, most = len(os.fsencode(name)), LONGEST_NAME if too_long else LONGEST_PATH
        raise ConfigError(f"{key}: a name of {size} bytes, {name[:40] + '...'!r} (at most {most})")
    if not str(path).isprintable():
        raise ConfigError(f"{key}: {str(path)!r} holds control characters")
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"{key}: {str(place)!r} is a file, no folder")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `path` when the block ends well, and vanishes when it doesn't."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settle_folder(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    held = _lock(temporary)
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        for inner in temporary.rglob("*"):  # safetensors lets nobody but the owner read
            os.chmod(inner, 0o755 if inner.is_dir() else 0o644)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.replace(path, old / path.name)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        if held is not None:
            os.close(held)


def settle_folder(path: Path) -> None:
    """Clear away what `new_folder` left around `path` when its process was killed; an old folder comes back.

    A process that is still writing is left alone.
    """
    name = glob.escape(path.name)
    for old in sorted(path.parent.glob(f".{name}.old.????????/")):
        if not path.exists() and (old / path.name).exists():
            os.replace(old / path.name, path)
        shutil.rmtree(old)
    for left in path.parent.glob(f".{name}.????????/"):
        if (held := _lock(left)) is not None:
            shutil.rmtree(left)
            os.close(held)


def _lock(folder: Path) -> int | None:
    """Hold a folder until the descriptor is closed or the process ends; None: another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def clear_unfinished(run_dir: RunDir) -> None:
    """Settle a run's own folders and delete its half-written files, after a process that was killed."""
    folders = (run_dir.adapter, run_dir.model, run_dir.merged, run_dir.tokenizer, run_dir.extended)
    for folder in (*folders, run_dir.export):
        settle_folder(folder)
    part_of(run_dir.export_gguf).unlink(missing_ok=True)
    files = (run_dir.config_yaml, run_dir.run_json, run_dir.train_json, run_dir.results_json)
    for file in (*files, run_dir.merge_report, run_dir.held_out_jsonl):
        for left in file.parent.glob(f".{file.name}.????????"):
            left.unlink()
    for left in run_dir.path.glob("predictions/*/.*.jsonl.????????"):
        left.unlink()


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hex digits."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of the names and bytes of a folder's files, hidden ones and its card left out."""
    digest = hashlib.sha256()
    files = (
        [path]
        if path.is_file()
        else sorted(
            p
            for p in path.rglob("*")
            if p.is_file() and not p.name.startswith(".") and p != path / MODEL_CARD
        )
    )
    for file in files:
        digest.update(str(file.relative_to(path)).encode("utf-8") + b"\0")
        with file.open("rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
