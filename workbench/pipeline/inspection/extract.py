"""The extract step: makes a LoRA of the difference between two checkpoints, or of another adapter."""

import logging
from collections.abc import Sequence
from pathlib import Path

from workbench.config import Config
from workbench.config.adapter import AdapterBase
from workbench.config.history import hashed
from workbench.errors import ConfigError
from workbench.files import file_fingerprint
from workbench.models.checkpoints.hub import locate_adapter
from workbench.models.extraction.convert import Source, convert, open_adapter
from workbench.models.extraction.decompose import Extracted
from workbench.models.extraction.extract import extract as extract_lora
from workbench.models.extraction.lora_folder import Extraction
from workbench.pipeline.inspection.diagnose import open_folders
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import base_content, content, skip_finished
from workbench.progress import Progress
from workbench.run_dir import fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

SHOWN = 8
"""Largest number of weights that a warning names."""


def extract(run: Run) -> None:
    """Write, as the run's adapter, a LoRA of the difference between `merged.path` and the base.

    Without `merged.path`, the LoRA is made of the adapter at `adapter.path`. The log tells how much of the
    difference the LoRA reproduces. If it is finished with the same inputs, it is not repeated.

    Raises:
        CheckpointError: The checkpoints can't be compared, or don't differ; the adapter can't be converted.
        ConfigError: The base has random weights, or the training's quantization can't be reproduced.
    """
    config, run_dir = run.config, run.run_dir
    record, inputs = RunRecord(run_dir.run_json), extraction_fingerprint(config)
    if skip_finished("extract", record.is_finished("extract", inputs, run_dir.adapter), config):
        return
    if is_conversion(config):
        extraction = convert(source(config), config.extract, run_dir.adapter)
        show_conversion(extraction, config)
    else:
        extraction = _between(run)
        show(extraction, config)
    log.info("extract: %s", run_dir.adapter)
    layers = {layer.name: layer.facts() for layer in extraction.layers}
    record.finish("extract", inputs, run_dir.adapter, {"layers": layers, "rest": extraction.rest})


def check(run: Run) -> None:
    """Check what the extract step needs, before the first step of the run.

    Raises:
        ConfigError: The run's folder has an adapter that the step would replace, or both sources are given.
        WorkbenchError: A folder is missing or damaged, or the adapter can't be converted.
    """
    config, run_dir = run.config, run.run_dir
    path = config.adapter.path
    steps = RunRecord(run_dir.run_json).values["steps"]
    made_here = "extract" in steps and "train" not in steps
    is_source = path is not None and Path(path).resolve() == run_dir.adapter.resolve()
    if run_dir.adapter.is_dir() and (is_source or not made_here):
        raise ConfigError(
            f"run_dir: {str(run_dir.path)!r} has an adapter that would be replaced (give another)"
        )
    if path and config.merged.path:
        raise ConfigError("adapter.path: extract makes a LoRA of merged.path or of adapter.path (give one)")
    if is_conversion(config):
        open_adapter(source(config))
    else:
        open_folders(run)


def is_conversion(config: Config) -> bool:
    """Return whether the LoRA is made of an adapter, not of two checkpoints."""
    return bool(config.adapter.path) and not config.merged.path


def source(config: Config) -> Source:
    """Return the settings of the adapter to convert, with its base; nothing is loaded."""
    return Source(
        model=config.model,
        quantization=config.quantization,
        adapter_path=str(config.adapter.path),
        accepts_base=config.adapter.base is AdapterBase.accept,
    )


def extraction_fingerprint(config: Config) -> str:
    """Return the fingerprint of the settings and files that the extracted adapter depends on.

    Raises:
        CheckpointError: There is nothing at `adapter.path` or `model.path`.
    """
    revision, settings = config.model.revision, hashed(config.extract, "extract")
    if not is_conversion(config):
        folders = [content(config.model.path), revision, content(config.merged.path)]
        return fingerprint([*folders, settings])
    sections = [hashed(config.quantization, "quantization"), config.model.dtype.value, settings]
    adapter = file_fingerprint(locate_adapter(str(config.adapter.path)))
    return fingerprint([base_content(config), revision, adapter, *sections])


def _between(run: Run) -> Extraction:
    """Extract the LoRA between two checkpoints."""
    base, tuned = open_folders(run)
    settings, folder = run.config.extract, run.run_dir.adapter
    with Progress("extract", len(tuned.tensors), unit="tensors") as bar:
        return extract_lora(base, tuned, settings, folder, run.config.model.path, lambda: bar.advance(1))


def show_conversion(extraction: Extraction, config: Config) -> None:
    """Log which share of the adapter's update the LoRA keeps, and the weights that are saved unfactored."""
    layers = extraction.layers
    ranks = [layer.rank for layer in layers]
    log.info(
        "extract: keeps %s of the update's energy at rank %s; %d of %d layers whole",
        _percent(extraction.energy_kept),
        f"{ranks[0]}" if len(set(ranks)) == 1 else f"{min(ranks)} to {max(ranks)}",
        *(sum(layer.is_whole for layer in layers), len(layers)),
    )
    _warn_of_ranks(layers, config)
    if extraction.whole_weights:
        log.info(
            "extract: the adapter's own weights, saved whole: %s", ", ".join(sorted(extraction.whole_weights))
        )


def _percent(share: float) -> str:
    """Return a share as a percentage that is 100% only if nothing is missing."""
    return "100%" if share > 1 - 1e-6 else f"{min(100 * share, 99.99):.4g}%"


def _warn_of_ranks(layers: Sequence[Extracted], config: Config) -> None:
    """Warn of layers whose rank is too small for the share."""
    beyond = [layer for layer in layers if layer.share < config.extract.share and not layer.is_whole]
    if beyond:
        log.warning(
            "extract: %d layers reproduce a smaller share than extract.share=%.3g, such as %s (%.3f): %s",
            *(len(beyond), config.extract.share, beyond[0].name, beyond[0].share),
            "extract.rank is too small" if config.extract.rank else "extract.max_rank is too small",
        )


def show(extraction: Extraction, config: Config) -> None:
    """Log the layers' ranks and reproduced shares, and the changed weights that a LoRA can't change."""
    layers = extraction.layers
    ranks, shares = [layer.rank for layer in layers], [layer.share for layer in layers]
    log.info(
        "extract: %d layers, of rank %d to %d, reproduce %.1f%% to %.1f%% of the squared difference; "
        "%d tensors are equal in both models",
        *(len(layers), min(ranks), max(ranks), 100 * min(shares), 100 * max(shares), extraction.num_equal),
    )
    _warn_of_ranks(layers, config)
    if not extraction.rest:
        return
    names = sorted(extraction.rest, key=lambda name: -extraction.rest[name])
    shown = ", ".join(f"{name} ({extraction.rest[name]:.2g})" for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    left_out = [name for name in names if name not in extraction.whole_weights]
    how = "saved whole" if not left_out else "left out (extract.keep_rest=true saves them whole)"
    log.warning("extract: changed weights that a LoRA can't change: %s%s: %s", shown, more, how)
