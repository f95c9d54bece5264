"""The export step."""

import logging
from pathlib import Path

from workbench.config import Config
from workbench.models.export import export as export_model
from workbench.pipeline.scoring import plain
from workbench.run_dir import RunDir

log = logging.getLogger("workbench")


def export(config: Config, run_dir: RunDir) -> None:
    """Write the run's merged or trained model, else the one at `model.path`, in another tool's format."""
    own = next((folder for folder in (run_dir.merged, run_dir.model) if folder.is_dir()), None)
    model = plain(config.model, own) if own else config.model
    path = Path(config.export.path) if config.export.path else run_dir.path / "export"
    report = export_model(model, config.export, path)
    log.info(
        "export: %s, %d tensors, %.1f MB%s, in %s",
        report.format,
        report.num_tensors,
        report.num_bytes / 1e6,
        ", the stable embedding folded into its rows" if report.folded else "",
        path,
    )
