"""The export step."""

import logging
from pathlib import Path

from workbench.config.export import ExportFormat
from workbench.errors import MissingStepError
from workbench.models.adapters import adapter_config
from workbench.models.export import export as export_model
from workbench.pipeline.run_models import fingerprint_of_merge, plain
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, check_trained

log = logging.getLogger("workbench")


def export(run: Run) -> None:
    """Write the run's merged or trained model, else the one at `model.path`, in another tool's format.

    Raises:
        CheckpointError: no adapter lies at `adapter.path`.
        MissingStepError: there is an adapter, and no merge of it.
    """
    config, run_dir = run.config, run.run_dir
    adapter = adapter_folder(run)
    if adapter is not None:
        adapter_config.read_config(adapter)
    if adapter is not None and not fingerprint_of_merge(adapter, run_dir):
        raise MissingStepError(
            f"export: the adapter in {str(adapter)!r} is not merged in {str(run_dir.path)!r} "
            "(run the merge step before: recipe=merge, or steps=[merge,export])"
        )
    own = next((folder for folder in (run_dir.merged, run_dir.model) if folder.is_dir()), None)
    if own == run_dir.model:
        check_trained(run_dir, own)
    model = plain(config.model, own) if own else config.model
    as_gguf = config.export.format is ExportFormat["gguf"]
    own_path = run_dir.export_gguf if as_gguf else run_dir.export
    path = Path(config.export.path) if config.export.path else own_path
    report = export_model(model, config.export, path)
    log.info(
        "export: %s, %d tensors, %.1f MB%s, in %s",
        report.format,
        report.num_tensors,
        report.num_bytes / 1e6,
        ", the stable embedding folded into its rows" if report.folded else "",
        path,
    )
