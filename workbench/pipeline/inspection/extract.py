"""The extract step: makes a LoRA of the difference between two checkpoints."""

import logging

from workbench.config import Config
from workbench.config.history import hashed
from workbench.models.extraction.extract import Extraction
from workbench.models.extraction.extract import extract as extract_lora
from workbench.pipeline.inspection.diagnose import open_folders
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import content, skip_finished
from workbench.progress import Progress
from workbench.run_dir import fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

SHOWN = 8
"""Largest number of weights that a warning names."""


def extract(run: Run) -> None:
    """Write the LoRA between `model.path` and `merged.path` as the run's adapter.

    The log tells how much of the difference the LoRA reproduces.

    Raises:
        CheckpointError: The checkpoints can't be compared, or don't differ.
    """
    config, run_dir = run.config, run.run_dir
    record, inputs = RunRecord(run_dir.run_json), extracted_from(config)
    if skip_finished("extract", record.is_finished("extract", inputs, run_dir.adapter), config):
        return
    base, tuned = open_folders(run)
    with Progress("extract", len(tuned.tensors), unit="tensors") as bar:
        extraction = extract_lora(
            base, tuned, config.extract, run_dir.adapter, config.model.path, lambda: bar.advance(1)
        )
    show(extraction, config)
    log.info("extract: %s", run_dir.adapter)
    layers = {
        layer.name: {"rank": layer.rank, "share": layer.share, "size": layer.size, "shares": layer.shares}
        for layer in extraction.layers
    }
    record.finish("extract", inputs, run_dir.adapter, {"layers": layers, "rest": extraction.rest})


def extracted_from(config: Config) -> str:
    """Return the fingerprint of the settings and files that the extracted adapter depends on."""
    paths = [content(config.model.path), config.model.revision, content(config.merged.path)]
    return fingerprint([*paths, hashed(config.extract, "extract")])


def show(extraction: Extraction, config: Config) -> None:
    """Log the layers' ranks and reproduced shares, and the changed weights that a LoRA can't change."""
    layers = extraction.layers
    ranks, shares = [layer.rank for layer in layers], [layer.share for layer in layers]
    log.info(
        "extract: %d layers, of rank %d to %d, reproduce %.1f%% to %.1f%% of the squared difference; "
        "%d tensors are equal in both models",
        *(len(layers), min(ranks), max(ranks), 100 * min(shares), 100 * max(shares), extraction.num_equal),
    )
    beyond = [layer for layer in layers if layer.share < config.extract.share]
    if beyond:
        log.warning(
            "extract: %d layers reproduce a smaller share than extract.share=%.3g, such as %s (%.3f): %s",
            *(len(beyond), config.extract.share, beyond[0].name, beyond[0].share),
            "extract.rank is too small" if config.extract.rank else "extract.max_rank is too small",
        )
    if not extraction.rest:
        return
    names = sorted(extraction.rest, key=lambda name: -extraction.rest[name])
    shown = ", ".join(f"{name} ({extraction.rest[name]:.2g})" for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    left_out = [name for name in names if name not in extraction.kept]
    how = "saved whole" if not left_out else "left out (extract.keep_rest=true saves them whole)"
    log.warning("extract: changed weights that a LoRA can't change: %s%s: %s", shown, more, how)
