"""What a step is made from: the folders it reads, and the fingerprints by which it is known to be done."""

import logging
from pathlib import Path
from typing import Any

import torch

import workbench
from workbench.config import Config
from workbench.config.adapter import AdapterMethod
from workbench.config.history import hashed
from workbench.config.model import Task
from workbench.config.names import ADAPTER, MERGED, TRAINED
from workbench.config.train import Precision
from workbench.errors import CheckpointError
from workbench.models.dtypes import HALF
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir, file_fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")


def is_classifier(config: Config) -> bool:
    """Whether whole sequences are labelled."""
    return config.model.task is Task.sequence_classification


def trains_whole_model(config: Config) -> bool:
    """Whether there is no adapter."""
    return config.adapter.method is AdapterMethod.none and config.adapter.path is None


def autocast_dtype(run: Run) -> torch.dtype | None:
    """The 16-bit type of a model that is trained itself, as float32 copies; None: weights keep their type."""
    if not trains_whole_model(run.config) or run.config.train.precision is Precision.pure:
        return None
    return run.model_dtype if run.model_dtype in HALF else None


def adapter_folder(run: Run) -> Path | None:
    """The adapter of this run: the one trained here, else the one that the configuration names.

    Raises:
        CheckpointError: the one here isn't as the train step left it.
    """
    if run.run_dir.adapter.is_dir():
        check_trained(run.run_dir, run.run_dir.adapter)
        return run.run_dir.adapter
    return Path(run.config.adapter.path) if run.config.adapter.path else None


def model_folder(name: str, run: Run) -> Path | None:
    """Where the adapter, the merged or the trained model is, if the run has it.

    Raises:
        CheckpointError: the adapter isn't as the train step left it.
    """
    if name == ADAPTER:
        return adapter_folder(run)
    folder = {MERGED: run.run_dir.merged, TRAINED: run.run_dir.model}[name]
    return folder if folder.is_dir() else None


def check_trained(run_dir: RunDir, folder: Path) -> str:
    """The fingerprint of what the train step of a run has left, which must still be as it left it.

    Raises:
        CheckpointError: it isn't.
    """
    found = file_fingerprint(folder)
    entry = RunRecord(run_dir.run_json).values["steps"].get("train")
    if entry is not None and entry["output"] != found:
        raise CheckpointError(
            f"{folder}: not as the train step left it (that step makes it again; to use it as it is, copy it "
            "elsewhere and name it with adapter.path or model.path)"
        )
    return found


def trained_from(config: Config) -> dict[str, Any]:
    """What decides the trained weights; files count by their content, wherever they lie."""
    names = ("model", "quantization", "adapter", "data")
    sections = {name: hashed(getattr(config, name), name) for name in names}
    sections["train"] = config.train.learned()
    for section, key in (("model", "path"), ("model", "tokenizer"), ("adapter", "path"), ("data", "path")):
        sections[section][key] = content(sections[section][key])
    if config.data.labels_file:
        sections["data"]["labels_file"] = content(config.data.labels_file)
    for source in sections["data"]["sources"].values():
        source["path"] = content(source["path"])
    for section in (sections["data"], *sections["data"]["sources"].values()):
        if isinstance(section["template"], str):  # a file; names stay the options of an enum
            section["template"] = content(section["template"])
    return {**sections, "seed": config.seed}


def content(path: str | None) -> str | None:
    """The fingerprint of a file or folder; a hub id stands for itself."""
    return file_fingerprint(Path(path)) if path and Path(path).exists() else path


def shown(path: str | None) -> str | None:
    """A path as others may see it: one inside this package without the place where it is installed."""
    package = Path(workbench.__file__).parent
    if path and Path(path).is_relative_to(package):
        return str(Path(package.name) / Path(path).relative_to(package))
    return path


def skipped(what: str, finished: bool, config: Config) -> bool:
    """Whether there is nothing to do, after saying so."""
    if finished and not config.force:
        log.info("%s: done before, and nothing has changed since (force=true repeats it)", what)
        return True
    return False
