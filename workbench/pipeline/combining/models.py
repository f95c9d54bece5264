"""Merges the models of `merge.models` into the run's merged/."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from workbench.config import Config
from workbench.config.history import hashed
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError
from workbench.leaderboard.rows.models import COMBINED
from workbench.models.combining.combine_models import ModelsReport, combine_models
from workbench.models.loading import check_model
from workbench.pipeline.combining.adapters import combined_facts
from workbench.pipeline.run_models import model_in
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import content, skip_finished
from workbench.run_dir import fingerprint, write_json
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")


def merge_models(run: Run) -> None:
    """Merge `merge.models` to one model in the run's folder merged/, unless that is finished.

    Raises:
        WorkbenchError: The models can't be merged.
    """
    config, run_dir = run.config, run.run_dir
    inputs = fingerprint(model_merge_inputs(config))
    record = RunRecord(run_dir.run_json)
    if skip_finished("merge", record.is_finished("merge", inputs, run_dir.merged), config):
        return
    report = combine_models(config.model, config.merge, run_dir.merged, partial(check_written, run))
    write_json(run_dir.merge_report, asdict(report))
    record.note(COMBINED, combined_facts(report.method, config.merge.models))
    record.finish("merge", inputs, run_dir.merged, {}, files=[run_dir.merge_report])
    log.info("merge: %s; %s", summary(report), run_dir.merged)


def check_written(run: Run, folder: Path) -> None:
    """Check that the model in `folder`, which is to become the run's merged/, can be loaded.

    Raises:
        CheckpointError: It can't.
    """
    try:
        check_model(model_in(folder, run.config.model), QuantizationConfig())
    except CheckpointError as error:
        reason = str(error).replace(str(folder), str(run.run_dir.merged))
        raise CheckpointError(f"{reason}: nothing is published") from error


def model_merge_inputs(config: Config) -> list[Any]:
    """Return what a merge of models depends on: the base, the section `merge`, and the models' contents.

    The sections are as `hashed` returns them. A content is a fingerprint, or a hub id itself.
    """
    base = {**hashed(config.model, "model"), "path": content(config.model.path)}
    if config.model.tokenizer:
        base["tokenizer"] = ["written", content(config.model.tokenizer)]
    merge = hashed(config.merge, "merge") | {"dtype": config.merge.dtype.value}
    return [base, merge, [content(entry.path) for entry in config.merge.models]]


def summary(report: ModelsReport) -> str:
    """Return a line on a merge of models for the log: weights, method, and what is left after rounding."""
    weighted = " + ".join(f"{entry['weight']:g} x {entry['path']}" for entry in report.models)
    kept_share = f"{report.kept:.0%} of the change is left after rounding"
    return f"{weighted} by {report.method}, {report.num_tensors} tensors, {kept_share}"
