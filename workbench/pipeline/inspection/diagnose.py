"""The diagnose step: finds the faults of a merged model, whichever tool has made it."""

import logging
import os

from workbench.config import Config
from workbench.config.quantization import QuantizationMethod
from workbench.errors import DataError
from workbench.files import write_json
from workbench.models.checkpoints.model_folder import ModelFolder, open_base, open_merged
from workbench.models.diagnosis.diagnose import Diagnosis
from workbench.models.diagnosis.diagnose import diagnose as diagnose_model
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder
from workbench.progress import Progress

log = logging.getLogger("workbench")


def diagnose(run: Run) -> None:
    """Compare a merged model with base and adapter, log the faults, and write diagnosis.json.

    The file is not written into a run folder that is read-only.

    Raises:
        CheckpointError: A file can't be read, or the adapter doesn't fit the base.
        DataError: The merged model has a fault; the report is written before.
    """
    config, run_dir = run.config, run.run_dir
    base, merged = open_folders(run)
    quantization = config.quantization.method
    trained_on = "" if quantization is QuantizationMethod.none else quantization.value
    with Progress("diagnose", len(base.tensors), unit="tensors") as bar:
        diagnosis = diagnose_model(base, merged, adapter_folder(run), trained_on, lambda fit: bar.advance(1))
    show(diagnosis)
    if not run_dir.path.exists() or os.access(run_dir.path, os.W_OK):
        names = {"base": config.model.path, "adapter": config.adapter.path, "merged": str(merged.path)}
        write_json(run_dir.diagnosis_json, {**names, **diagnosis.as_json()})
        log.info("diagnose: report in %s", run_dir.diagnosis_json)
    if diagnosis.faults:
        count = len(diagnosis.faults)
        others = f", the worst of {count} findings" if count > 1 else ""
        raise DataError(f"{merged.path}: {diagnosis.faults[0].words} (see above{others})")


def open_folders(run: Run) -> tuple[ModelFolder, ModelFolder]:
    """Open the base and the merged model, and return (base, merged); only headers of weight files are read.

    Raises:
        WorkbenchError: One of them is missing or damaged.
    """
    config = run.config
    return open_base(config.model.path, config.model.revision), open_merged(merged_path(config, run))


def merged_path(config: Config, run: Run) -> str | None:
    """Return the merged model's path: that of the configuration, else the run's own; None: there is none."""
    own_folder = run.run_dir.merged
    return config.merged.path or (str(own_folder) if own_folder.is_dir() else None)


def show(diagnosis: Diagnosis) -> None:
    """Log the faults, the most harmful first, then the notes and a summary of the tensors."""
    for number, finding in enumerate(diagnosis.faults, 1):
        log.warning("diagnose: %d. %s", number, finding.text)
    for finding in diagnosis.findings:
        if finding.is_note:
            log.info("diagnose: note: %s", finding.text)
    log.info("diagnose: %s", diagnosis.summary)
    if not diagnosis.faults:
        log.info("diagnose: no fault found")
