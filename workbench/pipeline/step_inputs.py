"""What a step is made from: the folders it reads, and the fingerprints by which it is known to be done."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import workbench
from workbench.config import Config
from workbench.config.adapter import AdapterMethod
from workbench.config.data import DataConfig
from workbench.config.history import hashed
from workbench.config.model import Task
from workbench.config.train import Precision
from workbench.data.classification import VALUE, listed_names
from workbench.errors import CheckpointError, ConfigError
from workbench.models.adapters import adapter_config
from workbench.models.loading import has_trained_head, read_config
from workbench.run_dir import RunDir, RunRecord, file_fingerprint

log = logging.getLogger("workbench")


def is_classifier(config: Config) -> bool:
    """Whether whole sequences are labelled."""
    return config.model.task is Task.sequence_classification


def trains_whole_model(config: Config) -> bool:
    """Whether there is no adapter."""
    return config.adapter.method is AdapterMethod.none and config.adapter.path is None


def autocast_dtype(config: Config) -> torch.dtype | None:
    """The 16-bit type of a model that is trained itself, as float32 copies; None: weights keep their type."""
    if not trains_whole_model(config) or config.train.precision is Precision.pure:
        return None
    dtype = read_config(config.model)[1]
    return dtype if dtype in (torch.bfloat16, torch.float16) else None


def named_data(config: Config) -> DataConfig:
    """The data section, its classes named by the head that a classifier goes on from, if it has one.

    Raises:
        ConfigError: `data.labels` names others, or in another order.
    """
    trained = trained_labels(config) if is_classifier(config) else []
    given = [VALUE] if config.data.regression else list(config.data.labels) or listed_names(config.data)
    if trained and given and given != trained:
        raise ConfigError(
            f"data.labels: {given!r}, but the head of {config.adapter.path or config.model.path!r} was "
            f"trained for {trained!r}, in this order (data.labels=[] takes these)"
        )
    return replace(config.data, labels=trained) if trained and not given else config.data


def trained_labels(config: Config) -> list[str]:
    """The classes that the adapter or model to go on from knows, in order; empty: none by name."""
    path = config.adapter.path
    if path and (named := adapter_config.label_names(path)) is not None:
        return named
    if not has_trained_head(config.model):
        return []
    found = read_config(config.model)[0].id2label or {}
    names = {int(number): name for number, name in found.items()}
    is_named = any(name != f"LABEL_{number}" for number, name in names.items())
    return [names[number] for number in sorted(names)] if is_named else []


def adapter_folder(config: Config, run_dir: RunDir) -> Path | None:
    """The adapter of this run: the one trained here, else the one that the configuration names.

    Raises:
        CheckpointError: the one here isn't as the train step left it.
    """
    if run_dir.adapter.is_dir():
        check_trained(run_dir, run_dir.adapter)
        return run_dir.adapter
    return Path(config.adapter.path) if config.adapter.path else None


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
