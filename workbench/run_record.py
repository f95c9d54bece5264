"""Reads and writes run.json: finished steps with fingerprints of their inputs and files, and measurements."""

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

SETTINGS = "settings"
"""Key in a step's entry for what the step was told."""

RULES = "rules"
"""Key in SETTINGS for the versions of the program's rules that a score depends on."""

MEASURED_WITH = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "open-llama-workbench")
"""Packages whose versions run.json records."""


class RunRecord:
    """Content of a run.json: of each step that has finished, fingerprints of its inputs and files.

    A step's name is `train`, `merge`, ..., or `evaluate/MODEL/BENCHMARK` for one benchmark. It has one entry,
    which a repetition replaces. Measurements, versions, machine, commands and a checksum are there too.
    """

    def __init__(self, path: Path) -> None:
        """Read the run.json at `path`; without such a file, start an empty record, which isn't written yet.

        Raises:
            DataError: The file is damaged or was changed since it was written, or `path` is a folder.
        """
        check_replaceable(path)
        self.path = path
        self.values: dict[str, Any] = {"schema_version": 1, "steps": {}}
        if path.is_file():
            self.values |= read_record(path)

    def is_finished(self, step: str, inputs: str, output: Path) -> bool:
        """Return whether `step` has finished from these inputs, and the files that it wrote are unchanged.

        If only a file is missing or changed, a warning is logged.

        Args:
            step: Name of the step.
            inputs: Fingerprint of the inputs now; the recorded one must be equal.
            output: File or folder that the step wrote.
        """
        entry = self.values["steps"].get(step)
        if entry is None or entry["inputs"] != inputs:
            return False
        if problem := self.problem(step, output):
            log.warning("%s (%s makes it again)", problem, step)
        return problem is None

    def problem(self, step: str, output: Path) -> str | None:
        """Return a message about the first file of a finished step that is missing or changed since.

        None: all its files are unchanged, or the step isn't recorded as finished.

        Args:
            step: Name of the step.
            output: File or folder that the step wrote; its other files are in the record.
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
        """Return the checksum of a step's scores (`digests` of `finish`); None if the record has none."""
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
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that `step` has made `output` from these inputs, and write run.json.

        Args:
            step: Name of the step.
            inputs: Fingerprint of everything that decides the output.
            output: File or folder that the step wrote; fingerprinted here.
            measured: Measurements. They replace those under the step's name; for `a/b`, key b of object a.
            files: Other files in the run's folder that the step wrote.
            digests: Name -> further checksum to record with the step.
            settings: What the step was told, as JSON values.
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
        entry |= {} if settings is None else {SETTINGS: dict(settings)}
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
        """Record a JSON value about the whole run under a top-level key; write run.json if it differs."""
        if self.values.get(key) != value:
            self.values[key] = value
            self._write()

    def _write(self) -> None:
        """Write run.json with a checksum of itself; secrets are masked, in `values` too."""
        self.values = masked_json(self.values)
        self.values[DIGEST] = self_digest(self.values)
        write_json(self.path, self.values)


def self_digest(values: Mapping[str, Any]) -> str:
    """Return the checksum of a JSON object's keys and values, except the key `DIGEST`."""
    return fingerprint({key: value for key, value in values.items() if key != DIGEST})


def read_record(path: Path) -> dict[str, Any]:
    """Return the content of a run.json; a checksum in it is checked (files of earlier versions have none).

    Raises:
        DataError: The file is damaged, or was changed since it was written.
        OSError: The file is missing or can't be read.
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
