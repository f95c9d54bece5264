"""Names every file that a run writes, and records in run.json which steps are finished."""

import logging
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, DataError
from workbench.files import LOCK, check_replaceable, masked_json, settle_file
from workbench.files import MODEL_CARD as MODEL_CARD
from workbench.files import file_fingerprint as file_fingerprint
from workbench.files import fingerprint as fingerprint
from workbench.files import part_of as part_of
from workbench.files import read_json as read_json
from workbench.files import write_atomic as write_atomic
from workbench.files import write_json as write_json
from workbench.folders import check_folder as check_folder
from workbench.folders import new_folder as new_folder
from workbench.folders import settle_folder as settle_folder

log = logging.getLogger("workbench")


@dataclass(frozen=True)
class RunDir:
    """Folder of one run. Steps exchange data through these files only."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the run, which is the folder's name."""
        return self.path.name

    @property
    def config_yaml(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        """Versions, machine, measured values, and the fingerprints of finished steps."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints that a training resumes from."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The trained adapter, in PEFT's format."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The trained model, if there is no adapter (`adapter=none`)."""
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
        """A model exported as one GGUF file."""
        return self.path / "export.gguf"

    @property
    def train_jsonl(self) -> Path:
        """One line per logged training step."""
        return self.path / "train.jsonl"

    @property
    def loss_svg(self) -> Path:
        """Plot of the losses in train.jsonl."""
        return self.path / "loss.svg"

    @property
    def train_json(self) -> Path:
        """What was trained on which rows, without measured values."""
        return self.path / "train.json"

    @property
    def held_out_jsonl(self) -> Path:
        """Rows held out of training, on which the models are compared; one per line."""
        return self.path / "held_out.jsonl"

    @property
    def merged(self) -> Path:
        """The merged model, written only after the merge was proven."""
        return self.path / "merged"

    @property
    def merge_report(self) -> Path:
        """Report that proves the merge."""
        return self.path / "merge_report.json"

    @property
    def results_json(self) -> Path:
        """All scores of this run."""
        return self.path / "results.json"

    @property
    def cache(self) -> Path:
        """Cached answers, from which an interrupted evaluation continues."""
        return self.path / "cache"

    @property
    def lock(self) -> Path:
        """Lock file of the process that uses the folder."""
        return self.path / LOCK

    @property
    def tensorboard(self) -> Path:
        """Event files of a training for TensorBoard."""
        return self.path / "tensorboard"

    def check_links(self) -> None:
        """Check that the folders that steps write files into are not links.

        Raises:
            ConfigError: One of them is a link.
        """
        predictions = self.path / "predictions"
        for folder in (self.checkpoints, self.cache, self.tensorboard, predictions, *predictions.glob("*")):
            if folder.is_symlink():
                raise ConfigError(
                    f"{folder}: a link to {os.readlink(folder)!r}, whose files would be written over (put a "
                    "folder in its place; the run's folder itself may be a link)"
                )

    def predictions(self, model: str, benchmark: str) -> Path:
        """One line an item, for one model (base, adapter, merged) on one benchmark."""
        return self.path / "predictions" / model / f"{benchmark}.jsonl"


DIGEST = "digest"
"""Key of the checksum that a JSON file holds of itself."""

MEASURED_WITH = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "open-llama-workbench")


class RunRecord:
    """run.json: which steps are finished, made from what, what they left, and everything that was measured.

    It holds a checksum of itself, and of all that the steps have left.
    """

    def __init__(self, path: Path) -> None:
        """Read the record at `path`, or begin one.

        Raises:
            DataError: it is damaged, or changed since it was written.
        """
        check_replaceable(path)
        self.path = path
        self.values: dict[str, Any] = {"schema_version": 1, "steps": {}}
        if path.is_file():
            self.values |= read_record(path)

    def is_finished(self, step: str, inputs: str, output: Path) -> bool:
        """Whether `step` was made from inputs of this fingerprint, and all that it left lies there unchanged.

        What doesn't is named in the log.
        """
        entry = self.values["steps"].get(step)
        if entry is None or entry["inputs"] != inputs:
            return False
        if problem := self.problem(step, output):
            log.warning("%s (%s makes it again)", problem, step)
        return problem is None

    def problem(self, step: str, output: Path) -> str | None:
        """What of a finished step's files isn't as the step left it, in a few words; None: all of it is."""
        entry = self.values["steps"].get(step)
        if entry is None:
            return None
        digests = {output: entry["output"]}
        digests |= {self.path.parent / name: digest for name, digest in entry.get("files", {}).items()}
        for path, digest in digests.items():
            if not path.exists():
                return f"{path}: missing, though {step} had left it"
            if file_fingerprint(path) != digest:
                return f"{path}: not as {step} left it"
        return None

    def scores(self, step: str) -> str | None:
        """The checksum of what results.json says of a scoring; None: a version without checksums wrote it."""
        digest = self.values["steps"].get(step, {}).get("scores")
        return digest if isinstance(digest, str) else None

    def finish(
        self,
        step: str,
        inputs: str,
        output: Path,
        measured: Mapping[str, Any],
        *,
        files: Iterable[Path] = (),
        digests: Mapping[str, str] | None = None,
    ) -> None:
        """Remember that `step` made `output` from these inputs, and what was measured.

        Args:
            step: name of the step.
            inputs: fingerprint of what it was made from.
            output: file or folder.
            measured: goes beside the step's name.
            files: what else of the run's folder it left.
            digests: further checksums to keep with the step.
        """
        self.values["versions"] = {name: _version(name) for name in MEASURED_WITH}
        self.values["machine"] = {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
        }
        entry: dict[str, Any] = {"inputs": inputs, "output": file_fingerprint(output)}
        beside = {str(file.relative_to(self.path.parent)): file for file in files}
        if beside:
            entry["files"] = {name: file_fingerprint(file) for name, file in beside.items()}
        self.values["steps"][step] = {**entry, **(digests or {})}
        section = self.values
        *parents, last = step.split("/")
        for name in parents:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[last] = dict(measured)
        config = self.path.with_name(RunDir(Path()).config_yaml.name)
        if config.is_file():
            self.values.setdefault("config", file_fingerprint(config))
        self._write()

    def note(self, key: str, value: Any) -> None:
        """Remember something about the whole run under a key of its own."""
        if self.values.get(key) != value:
            self.values[key] = value
            self._write()

    def _write(self) -> None:
        """Write the record with a checksum of itself."""
        self.values = masked_json(self.values)
        self.values[DIGEST] = self_digest(self.values)
        write_json(self.path, self.values)


def self_digest(values: Mapping[str, Any]) -> str:
    """The checksum that a JSON object holds of the rest of itself."""
    return fingerprint({key: value for key, value in values.items() if key != DIGEST})


def read_record(path: Path) -> dict[str, Any]:
    """What a run.json holds; one that an earlier version wrote has no checksum of itself.

    Raises:
        DataError: it is damaged, or changed since it was written.
    """
    try:
        values = read_json(path)
        reason = _damage(values)
    except ValueError as error:
        reason = str(error)
    if reason:
        raise DataError(
            f"{path}: not the record of a run, {reason} (without the file its steps are repeated)"
        )
    assert isinstance(values, dict)
    return values


def _damage(values: Any) -> str | None:
    """What is wrong with a record, in a few words; None: nothing."""
    if not isinstance(values, dict) or not isinstance(values.get("steps"), dict):
        return "it has no steps"
    if DIGEST in values and values[DIGEST] != self_digest(values):
        return "it was changed since it was written"
    for step, entry in values["steps"].items():
        texts = [entry.get("inputs"), entry.get("output")] if isinstance(entry, dict) else [None]
        files = entry.get("files", {}) if isinstance(entry, dict) else {}
        texts += list(files.values()) if isinstance(files, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            return f"its step {step!r} has no fingerprints"
    return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def clear_unfinished(run_dir: RunDir) -> None:
    """Delete the half-written files and folders that a killed process left in a run folder."""
    folders = (run_dir.adapter, run_dir.model, run_dir.merged, run_dir.tokenizer, run_dir.extended)
    for folder in (*folders, run_dir.export):
        settle_folder(folder)
    part_of(run_dir.export_gguf).unlink(missing_ok=True)
    files = (run_dir.config_yaml, run_dir.run_json, run_dir.train_json, run_dir.train_jsonl, run_dir.loss_svg)
    cards = [folder / MODEL_CARD for folder in folders]
    for file in (*files, run_dir.results_json, run_dir.merge_report, run_dir.held_out_jsonl, *cards):
        settle_file(file)
    for left in run_dir.path.glob("predictions/*/.*.jsonl.????????"):
        if left.is_file() or left.is_symlink():
            left.unlink()
