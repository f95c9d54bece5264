"""The export step: writes the run's model, or its adapter, in the format of another tool."""

import logging
from pathlib import Path

from workbench.config import Step
from workbench.config.adapter import AdapterBase
from workbench.config.model import ModelConfig
from workbench.config.publishing.export import ExportFormat
from workbench.errors import MissingStepError
from workbench.models.adapters import adapter_config
from workbench.models.adapters.provenance import check_base_of
from workbench.models.export import ExportReport, check_export, check_gguf, gguf_outline
from workbench.models.export import export as export_model
from workbench.models.export_lora import export_lora
from workbench.pipeline.publishing.gguf_check import check_file
from workbench.pipeline.run_models import merge_fingerprint, model_in
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, check_trained

log = logging.getLogger("workbench")


def export(run: Run) -> None:
    """Write the run's merged or trained model, or else the model at `model.path`, in another tool's format.

    With export.format=gguf-lora, write the adapter instead. The output is `export.path`, or a default path in
    the run's folder. `workbench.models.export` and `export_lora` do the work; the Python interface has no
    function for it.

    Raises:
        CheckpointError: There is no adapter at `adapter.path`, or a folder was changed since it was trained.
        MissingStepError: The run's adapter is not merged, or for gguf-lora there is no adapter.
        ConfigError, DeviceError: As in `models.export.export`.
    """
    config, run_dir = run.config, run.run_dir
    adapter = adapter_folder(run)
    if adapter is not None:
        adapter_config.read_config(adapter)
    path = output_path(run)
    if config.export.format is ExportFormat["gguf-lora"]:
        log_export(str(adapter), _export_adapter(run, adapter, path), path)
        return
    if adapter is not None and not merge_fingerprint(adapter, run_dir):
        raise MissingStepError(
            f"export: the adapter in {str(adapter)!r} is not merged in {str(run_dir.path)!r} "
            "(run the merge step first: recipe=merge, or steps=[merge,export])"
        )
    if not run_dir.merged.is_dir() and run_dir.model.is_dir():
        check_trained(run_dir, run_dir.model)
    model = exported_model(run)
    log_export(model.path, export_model(model, config.export, path), path)
    if config.export.format is ExportFormat["gguf"]:
        check_file(run, model, path)


def check_exportable(run: Run) -> None:
    """Check, before the steps that come before an export, that its format supports the model.

    Raises:
        MissingStepError: An adapter is trained, but not merged before the export.
        ConfigError, CheckpointError, DeviceError: As in `models.export.export`.
    """
    config, earlier = run.config, run.config.steps[: run.config.steps.index(Step.export)]
    of_adapter = config.export.format is ExportFormat["gguf-lora"]
    trains_adapter = Step.train in earlier and not config.adapter.is_none
    if trains_adapter and not of_adapter and Step.merge not in earlier and not run.run_dir.merged.is_dir():
        raise MissingStepError(
            "export: the adapter is trained, but not merged before (steps=[train,merge,export])"
        )
    is_made = bool({Step.train, Step.merge} & set(earlier))
    model = config.model if is_made or of_adapter else exported_model(run)
    if model.init:
        return  # trained weights are those of an Open-Llama
    check_export(model, config.export, output_path(run))
    if of_adapter:
        gguf_outline(model)
    elif config.export.format is ExportFormat["gguf"]:
        check_gguf(model)


def exported_model(run: Run) -> ModelConfig:
    """Return the section of the model to export: the run's merged or trained one, else `model`."""
    folders = (run.run_dir.merged, run.run_dir.model)
    folder = next((folder for folder in folders if folder.is_dir()), None)
    return model_in(folder, run.config.model) if folder else run.config.model


def output_path(run: Run) -> Path:
    """Return `export.path`, or the default path of its format in the run's folder."""
    export, run_dir = run.config.export, run.run_dir
    if export.path:
        return Path(export.path)
    if export.format is ExportFormat["gguf-lora"]:
        return run_dir.adapter_gguf
    return run_dir.export_gguf if export.is_file else run_dir.export


def _export_adapter(run: Run, adapter: Path | None, path: Path) -> ExportReport:
    """Write the adapter as a GGUF file for that of the model at `model.path`, its base.

    Raises:
        MissingStepError: There is no adapter.
    """
    config = run.config
    if adapter is None:
        raise MissingStepError(
            f"export: no adapter in {str(run.run_dir.path)!r} (run the train step before, or set "
            "adapter.path)"
        )
    accepts = config.adapter.base is AdapterBase.accept
    check_base_of(adapter, config.model, None, "", accepts=accepts)
    return export_lora(config.model, adapter, config.export, path)


def log_export(source: str | None, report: ExportReport, path: Path) -> None:
    """Log an export: the path of the model or adapter (`source`), format and size, and the output path."""
    log.info(
        "export: %s as %s, %d tensors, %.1f MB%s, in %s",
        source,
        report.format,
        report.num_tensors,
        report.num_bytes / 1e6,
        ", the stable embedding folded into its rows" if report.folded else "",
        path,
    )
