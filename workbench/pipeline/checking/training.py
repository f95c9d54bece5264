"""Checks the sections and rows of a training."""

from itertools import islice

from workbench.config import Config, Step
from workbench.config.model import Task
from workbench.config.train import Keep
from workbench.data.streaming import streamed_rows
from workbench.data.validate import check_rows
from workbench.errors import ConfigError
from workbench.models.adapters.trainable import check_trainable
from workbench.models.architecture import is_native
from workbench.models.loading import outline
from workbench.pipeline.checking.questions import check_questions
from workbench.pipeline.plan.plan import has_rows
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier
from workbench.pipeline.train import check_adapter, score_on_benchmarks
from workbench.training.arguments import check_loggers
from workbench.training.packing_support import STATE, passes_state

NUM_CHECKED = 1000
"""Number of streamed rows that are checked before the training; the others are checked when encoded."""


def check_best_checkpoint(run: Run) -> None:
    """Check that there is a validation loss or a score by which `train.keep` and `train.patience` can choose.

    Raises:
        ConfigError: There is neither.
    """
    config = run.config
    fraction = config.data.validation_fraction
    if not config.train.chooses or config.train.score_on or fraction:
        return
    reason = "data.validation_fraction is 0"
    if fraction is None:
        split = None if config.data.streaming else run.hold_out
        if split is not None and split.held_out:
            return
        reason = split.reason if split is not None else "rows are streamed"
    key = "keep" if config.train.keep is Keep.best else "patience"
    raise ConfigError(
        f"train.{key}: no rows are held out to tell which checkpoint is best, because {reason} "
        "(data.validation_fraction=0.05, or train.score_on)"
    )


def check_training(run: Run) -> None:
    """Check the sections that a training reads, and its rows; of streamed rows only the first ones.

    Raises:
        WorkbenchError: The sections contradict each other, or a row can't be read.
    """
    config = run.config
    check_questions(score_on_benchmarks(run), run)
    check_loggers(config.train.report_to)
    check_trainable(config.model, config.quantization, config.adapter, config.train)
    check_adapter(run)
    check_packing(config)
    if config.steps == [Step.plan] and not has_rows(config):
        return
    streaming, data = config.data.streaming, run.data
    if streaming and is_classifier(config) and not (data.labels or data.labels_file or data.regression):
        raise ConfigError("data.labels: not given, and data.streaming can't collect classes from all rows")
    rows = list(islice(streamed_rows(config.data, config.seed), NUM_CHECKED)) if streaming else run.rows
    check_rows(rows, data, config.model.task)
    check_best_checkpoint(run)


def check_packing(config: Config) -> None:
    """Refuse `data.packing` for a model with a recurrent state; other faults are found with the weights.

    Raises:
        ConfigError: The model has such a state.
    """
    is_causal = config.model.task is Task.causal_lm
    if config.data.packing and is_causal and is_native(config.model) and passes_state(outline(config.model)):
        raise ConfigError(f"data.packing: with this model, {STATE} (set it to false)")
