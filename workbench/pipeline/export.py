"""The export step: writes the run's model in the format of another tool."""

import logging
from pathlib import Path

from workbench.config.publishing.export import ExportFormat
from workbench.errors import MissingStepError
from workbench.models.adapters import adapter_config
from workbench.models.export import export as export_model
from workbench.pipeline.run_models import merge_fingerprint, model_in
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, check_trained

log = logging.getLogger("workbench")


def export(run: Run) -> None:
    """Write the run's merged or trained model, or else the model at `model.path`, in another tool's format.

    `workbench.models.export` does the work; the Python interface has no function for it.

    Raises:
        CheckpointError: There is no adapter at `adapter.path`.
        MissingStepError: There is an adapter that is not merged.
    """
    config, run_dir = run.config, run.run_dir
    adapter = adapter_folder(run)
    if adapter is not None:
        adapter_config.read_config(adapter)
    if adapter is not None and not merge_fingerprint(adapter, run_dir):
        raise MissingStepError(
            f"export: the adapter in {str(adapter)!r} is not merged in {str(run_dir.path)!r} "
            "(run the merge step first: recipe=merge, or steps=[merge,export])"
        )
    folder = next((folder for folder in (run_dir.merged, run_dir.model) if folder.is_dir()), None)
    if folder == run_dir.model:
        check_trained(run_dir, folder)
    model = model_in(folder, config.model) if folder else config.model
    is_gguf = config.export.format is ExportFormat["gguf"]
    default_path = run_dir.export_gguf if is_gguf else run_dir.export
    path = Path(config.export.path) if config.export.path else default_path
    report = export_model(model, config.export, path)
    log.info(
        "export: %s as %s, %d tensors, %.1f MB%s, in %s",
        model.path,
        report.format,
        report.num_tensors,
        report.num_bytes / 1e6,
        ", the stable embedding folded into its rows" if report.folded else "",
        path,
    )
