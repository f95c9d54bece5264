"""The inputs of a run's steps: folders, and fingerprints that decide whether a step is finished."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workbench.config import Config
from workbench.config.data import DataConfig
from workbench.config.history import hashed
from workbench.config.model import Task
from workbench.config.names import ADAPTER, MERGED, TRAINED
from workbench.config.serving.endpoint import EndpointApi
from workbench.errors import CheckpointError
from workbench.models.checkpoints.weights_fingerprint import model_fingerprint
from workbench.models.dtypes import autocast_dtype
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir, file_fingerprint, fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")


def is_classifier(config: Config) -> bool:
    """Return whether the model labels whole sequences."""
    return config.model.task is Task.sequence_classification


def asks_by_chat(config: Config) -> bool:
    """Return whether the model is behind an endpoint that is asked by chats alone, without a tokenizer."""
    return config.model.endpoint is not None and config.endpoint.api is EndpointApi["chat"]


def run_autocast_dtype(run: Run) -> torch.dtype | None:
    """Return the 16-bit dtype of mixed precision in the run's training; None: no autocast.

    The training of an adapter has none.
    """
    if run.config.adapter.is_none:
        return autocast_dtype(run.model_dtype, run.config.adapter, run.config.train)
    return None  # without reading the model's configuration


def adapter_folder(run: Run) -> Path | None:
    """Return the folder of the run's adapter: the trained one, else the combined one, else `adapter.path`.

    None: the run has no adapter. `adapter.path` is not checked, and may be a hub id.

    Raises:
        CheckpointError: The run's own adapter was changed since the step that made it.
    """
    run_dir = run.run_dir
    for folder, step in ((run_dir.adapter, "train"), (run_dir.combined, "combine")):
        if folder.is_dir():
            check_trained(run_dir, folder, step)
            return folder
    return Path(run.config.adapter.path) if run.config.adapter.path else None


def model_folder(name: str, run: Run) -> Path | None:
    """Return the folder of the adapter, the merged or the trained model; None if the run doesn't have it.

    Raises:
        CheckpointError: The run's own adapter was changed since the step that made it.
    """
    if name == ADAPTER:
        return adapter_folder(run)
    folder = {MERGED: run.run_dir.merged, TRAINED: run.run_dir.model}[name]
    return folder if folder.is_dir() else None


def check_trained(run_dir: RunDir, folder: Path, step: str = "train") -> str:
    """Return the fingerprint of a folder of weights, after checking that it is as its step wrote it.

    Without a record of the step in run.json, the folder is not checked.

    Args:
        run_dir: The run.
        folder: The folder of weights.
        step: Name of the step in run.json that wrote it.

    Raises:
        CheckpointError: The folder was changed since the step wrote it.
    """
    digest = file_fingerprint(folder)
    entry = RunRecord(run_dir.run_json).values["steps"].get(step)
    if entry is not None and entry["output"] != digest:
        raise CheckpointError(
            f"{folder}: was changed since the {step} step wrote it (that step makes it again; to use it as "
            "it is, copy it to another folder and name that in adapter.path or model.path)"
        )
    return digest


def training_inputs(config: Config) -> dict[str, Any]:
    """Return the settings that trained weights depend on, by section, with fingerprints for local files.

    Each section is as `hashed` or `row_inputs` returns it, so enum options stay members.
    """
    names = ("model", "quantization", "adapter")
    sections = {name: hashed(getattr(config, name), name) for name in names}
    sections["data"], sections["train"] = row_inputs(config.data), config.train.learned()
    sections["adapter"].pop("base", None)
    for section, key in (("model", "path"), ("model", "tokenizer"), ("adapter", "path")):
        sections[section][key] = content(sections[section][key])
    return {**sections, "seed": config.seed}


def recipe_fingerprint(settings: Mapping[str, Any]) -> str:
    """Return the fingerprint of a training's settings, from `training_inputs`, leaving out the seed."""
    return fingerprint({**settings, "seed": None})


def row_inputs(data: DataConfig) -> dict[str, Any]:
    """Return the values of the data section that go into a fingerprint, as `hashed` does.

    A key that version 1 lacked is absent where its value gives version 1's behaviour. Enum options stay
    members, and a path of a local file or folder is replaced by the fingerprint of its content.
    """
    section = hashed(data, "data")
    section["path"] = content(section["path"])
    if data.labels_file:
        section["labels_file"] = content(data.labels_file)
    for source in section["sources"].values():
        source["path"] = content(source["path"])
    for settings in (section, *section["sources"].values()):
        if isinstance(settings["template"], str):  # a file; named templates are options of an enum
            settings["template"] = content(settings["template"])
    return section


def content(path: str | None) -> str | None:
    """Return the fingerprint of a local file or folder; a path that doesn't exist (a Hub id) as it is."""
    return file_fingerprint(Path(path)) if path and Path(path).exists() else path


def base_content(config: Config) -> str | None:
    """Return the checksum of the weights at `model.path`; a Hub id or None is returned as it is.

    It is the `model_fingerprint` that adapters and merged models record, too.

    Raises:
        CheckpointError: A file of the model is damaged.
    """
    path = config.model.path
    return model_fingerprint(config.model) if path and Path(path).exists() else path


def skip_finished(step: str, is_finished: bool, config: Config) -> bool:
    """Return whether to skip a step, because it is finished and `force` isn't set; log that it is skipped.

    `step` is the name in the log line.
    """
    if is_finished and not config.force:
        log.info("%s: already done, nothing has changed since (force=true repeats it)", step)
        return True
    return False
