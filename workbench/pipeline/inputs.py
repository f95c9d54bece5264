"""What a step is made from: the folders it reads, and the fingerprints by which it is known to be done."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import workbench
from workbench.config import SAME_RUN, Config
from workbench.config.adapter import AdapterMethod
from workbench.config.model import Task
from workbench.run_dir import RunDir, file_fingerprint

log = logging.getLogger("workbench")


def is_classifier(config: Config) -> bool:
    """Whether whole sequences are labelled."""
    return config.model.task is Task.sequence_classification


def trains_whole_model(config: Config) -> bool:
    """Whether there is no adapter."""
    return config.adapter.method is AdapterMethod.none and config.adapter.path is None


def adapter_folder(config: Config, run_dir: RunDir) -> Path | None:
    """The adapter of this run: the one trained here, else the one that the configuration names."""
    if run_dir.adapter.is_dir():
        return run_dir.adapter
    return Path(config.adapter.path) if config.adapter.path else None


def trained_from(config: Config) -> dict[str, Any]:
    """What decides the trained weights; files count by their content, wherever they lie."""
    sections = {
        name: asdict(getattr(config, name)) for name in ("model", "quantization", "adapter", "data", "train")
    }
    for section, ignored in SAME_RUN.items():
        for key in ignored:
            del sections[section][key]
    for section, key in (("model", "path"), ("model", "tokenizer"), ("adapter", "path"), ("data", "path")):
        sections[section][key] = content(sections[section][key])
    for source in sections["data"]["sources"].values():
        source["path"] = content(source["path"])
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
