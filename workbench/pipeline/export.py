"""The export step: writes the run's model, or its adapter, in the format of another tool."""

import logging
from pathlib import Path

from workbench.config.adapter import AdapterBase
from workbench.config.publishing.export import ExportFormat
from workbench.errors import MissingStepError
from workbench.models.adapters import adapter_config
from workbench.models.adapters.provenance import check_base_of
from workbench.models.export import ExportReport
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
    if config.export.format is ExportFormat["gguf-lora"]:
        path = Path(config.export.path) if config.export.path else run_dir.adapter_gguf
        log_export(str(adapter), _export_adapter(run, adapter, path), path)
        return
    if adapter is not None and not merge_fingerprint(adapter, run_dir):
        raise MissingStepError(
            f"export: the adapter in {str(adapter)!r} is not merged in {str(run_dir.path)!r} "
            "(run the merge step first: recipe=merge, or steps=[merge,export])"
        )
    folder = next((folder for folder in (run_dir.merged, run_dir.model) if folder.is_dir()), None)
    if folder == run_dir.model:
        check_trained(run_dir, folder)
    model = model_in(folder, config.model) if folder else config.model
    default_path = run_dir.export_gguf if config.export.is_file else run_dir.export
    path = Path(config.export.path) if config.export.path else default_path
    log_export(model.path, export_model(model, config.export, path), path)
    if config.export.format is ExportFormat["gguf"]:
        check_file(run, model, path)


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
