"""The name of every file that a run writes, and how files are written: whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    def train_jsonl(self) -> Path:
        """One line a logged training step."""
        return self.path / "train.jsonl"

    @property
    def train_json(self) -> Path:
        """What was trained on what, without measured values."""
        return self.path / "train.json"

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

    def predictions(self, model: str, benchmark: str) -> Path:
        """One line an item, for one model (base, adapter, merged) on one benchmark."""
        return self.path / "predictions" / model / f"{benchmark}.jsonl"


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
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


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented UTF-8 JSON, atomically and with a stable order of keys as given."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file that this project wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `path` when the block ends well, and vanishes when it doesn't."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
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


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hex digits."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_fingerprint(path: Path) -> str:
    """SHA-256 over a file's bytes, or over the names and bytes of all files below a folder (hidden ones aside)."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    for file in files:
        digest.update(str(file.relative_to(path)).encode("utf-8") + b"\0")
        with file.open("rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
