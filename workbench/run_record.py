"""Reads and writes run.json: finished steps, fingerprints of inputs and outputs, and measurements."""

import logging
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.files import (
    check_replaceable,
    file_fingerprint,
    fingerprint,
    masked_json,
    read_json,
    write_json,
)
from workbench.made_by import made_by
from workbench.run_dir import RunDir

log = logging.getLogger("workbench")

DIGEST = "digest"
"""Key in a JSON file for the checksum of all its other keys."""

MEASURED_WITH = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "open-llama-workbench")


class RunRecord:
    """run.json: the finished steps, with fingerprints of their inputs and outputs, and all measurements.

    It contains a checksum of itself.
    """

    def __init__(self, path: Path) -> None:
        """Read the record at `path`; if there is no such file, start an empty record.

        Raises:
            DataError: The record is damaged, or changed since it was written.
        """
        check_replaceable(path)
        self.path = path
        self.values: dict[str, Any] = {"schema_version": 1, "steps": {}}
        if path.is_file():
            self.values |= read_record(path)

    def is_finished(self, step: str, inputs: str, output: Path) -> bool:
        """Return whether `step` has finished from inputs with this fingerprint, and its files are unchanged.

        A changed or missing file is logged as a warning.
        """
        entry = self.values["steps"].get(step)
        if entry is None or entry["inputs"] != inputs:
            return False
        if problem := self.problem(step, output):
            log.warning("%s (%s makes it again)", problem, step)
        return problem is None

    def problem(self, step: str, output: Path) -> str | None:
        """Return a message about a step's first missing or changed file; None if there is none.

        None also for a step that isn't recorded as finished.
        """
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
        """Return the checksum of a step's scores; None if the record has none, as of an earlier version."""
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
        """Record that `step` made `output` from these inputs, with measurements.

        Args:
            step: name of the step.
            inputs: fingerprint of everything that decides the output.
            output: file or folder.
            measured: measurements, stored under the step's name; `a/b` is stored as an object in an object.
            files: other files in the run's folder that the step wrote.
            digests: further checksums to keep with the step.
        """
        self.values["versions"] = {name: _version(name) for name in MEASURED_WITH}
        self.values["machine"] = {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
        }
        self.values.setdefault("made", {})[step] = made_by()
        entry: dict[str, Any] = {"inputs": inputs, "output": file_fingerprint(output)}
        other_files = {str(file.relative_to(self.path.parent)): file for file in files}
        if other_files:
            entry["files"] = {name: file_fingerprint(file) for name, file in other_files.items()}
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
        """Record a value about the whole run under `key`."""
        if self.values.get(key) != value:
            self.values[key] = value
            self._write()

    def _write(self) -> None:
        """Write the record with a checksum of itself."""
        self.values = masked_json(self.values)
        self.values[DIGEST] = self_digest(self.values)
        write_json(self.path, self.values)


def self_digest(values: Mapping[str, Any]) -> str:
    """Return the checksum of a JSON object, without the object's own entry for the checksum."""
    return fingerprint({key: value for key, value in values.items() if key != DIGEST})


def read_record(path: Path) -> dict[str, Any]:
    """Read a run.json, and check its checksum, which earlier versions didn't write.

    Raises:
        DataError: The record is damaged, or changed since it was written.
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
    """Return why the content of a run.json is damaged, in a few words; None: it is intact."""
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
