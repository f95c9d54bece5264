"""Trainer callbacks: add up each step's counters, stop a broken or stalled training, write manifests."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.distributed import all_gather, barrier, broadcast_from_rank0, is_rank0
from workbench.errors import TrainingError
from workbench.progress import Progress
from workbench.training.counters import TrainCounters
from workbench.training.reporting.journal import best_step, evaluations, journal_key, journal_lines
from workbench.training.resume import write_manifest

log = logging.getLogger("workbench")

EXPLODED_LOSS, EXPLODED_STEPS = 3.0, 10
"""A loss above 3 x (that of random guessing + 1 nat) in 10 steps in a row stops a training."""

LARGEST_WEIGHT = 1e4
"""Largest absolute value of a trained weight that isn't broken.

Products with larger weights soon exceed float16, which ends at 65,504.
"""

MAX_NAMED_ROWS = 16
"""Largest number of rows that an error message names."""


class StepCallback(TrainerCallback):
    """Adds each step to the counters, raises an error if the loss explodes, and has the last step logged."""

    def __init__(self, counters: TrainCounters, num_classes: int, rows: Dataset) -> None:
        """Set the limit of the loss, EXPLODED_LOSS x (1 + the loss of random guessing).

        Args:
            counters: Counters with the loss of each step.
            num_classes: Number of tokens or classes that a prediction chooses from; 1: a regression, without
                limit.
            rows: The training rows, whose file and line an error message names.
        """
        self.counters = counters
        self.rows = rows
        self.limit = EXPLODED_LOSS * (math.log(num_classes) + 1) if num_classes > 1 else math.inf
        self.steps_above_limit = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Set the intervals of logging and saving from `args`: a checkpoint may have stored others."""
        state.compute_steps(args, state.max_steps)  # type: ignore[no-untyped-call]

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Clear `step_rows` of the counters, which then collects the rows of the new step."""
        self.counters.step_rows = []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Add the step to the counters, check its loss, and have the Trainer log the last step.

        Raises:
            TrainingError: The loss is infinite or NaN, or above the limit for `EXPLODED_STEPS` steps or at
                the last step.
        """
        self.counters.end_step()
        loss, step = self.counters.losses[-1], state.global_step
        if not math.isfinite(loss):
            rows = self.row_sources(self.counters.nonfinite_rows)
            raise TrainingError(f"train: the loss is {loss} at step {step}, rows {rows}")
        self.steps_above_limit = self.steps_above_limit + 1 if loss > self.limit else 0
        is_last = step >= state.max_steps
        if self.steps_above_limit == EXPLODED_STEPS or (is_last and self.steps_above_limit):
            raise TrainingError(
                f"train: the loss exploded, {loss:.1f} at step {step}, high for {self.steps_above_limit} "
                f"steps, rows {self.row_sources(self.counters.step_rows)}"
            )
        control.should_log = control.should_log or is_last

    def row_sources(self, rank_rows: list[int]) -> str:
        """Return file and line of rows, for an error message; at most `MAX_NAMED_ROWS` are named.

        `rank_rows` are the row indices of this rank; the rows of all ranks are named, so all must call this.
        """
        indices = {row for rows in all_gather(rank_rows) for row in rows}
        columns = zip(self.rows["row"], self.rows["where"], strict=True)
        sources = [where for row, where in columns if row in indices]
        num_more = len(sources) - MAX_NAMED_ROWS
        return ", ".join(sources[:MAX_NAMED_ROWS] + ([f"{num_more} more"] if num_more > 0 else []))


class WriteManifest(TrainerCallback):
    """Writes the manifest (checksums and counters) of each checkpoint."""

    def __init__(self, identity: str, counters: TrainCounters) -> None:
        """Set the fingerprint of the training and the counters, both of which each manifest contains."""
        self.identity = identity
        self.counters = counters

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write, on rank 0, the manifest of the checkpoint that all ranks have just written.

        Raises:
            TrainingError: A trained weight is NaN, infinite or above LARGEST_WEIGHT; no manifest is written.
        """
        for name, weight in kwargs["model"].named_parameters():
            largest = float(weight.detach().abs().max()) if weight.requires_grad and weight.numel() else 0.0
            if not largest <= LARGEST_WEIGHT:
                raise TrainingError(
                    f"train: {name} holds a weight of {largest:g} at step {state.global_step} (a weight "
                    f"beyond {LARGEST_WEIGHT:,.0f} counts as broken)"
                )
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        is_final = control.should_training_stop
        barrier()
        if is_rank0():
            counters = self.counters.state_dict()
            write_manifest(folder, state.global_step, self.identity, counters, is_final=is_final)


class EarlyStopping(TrainerCallback):
    """Stops a training whose evaluations no longer improve."""

    def __init__(self, journal: Path, patience: int) -> None:
        """Stop after `patience` evaluations in a row that aren't better than the best before.

        Args:
            journal: Path of train.jsonl, which contains the evaluations.
            patience: Number of evaluations.
        """
        self.journal = journal
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop if the best evaluation in train.jsonl is `patience` evaluations old.

        The journal's callback comes first, so that train.jsonl has the newest evaluation already.
        """
        lines = broadcast_from_rank0(lambda: journal_lines(self.journal))
        steps = [step for step, _ in evaluations(lines)]
        best = steps.index(best_step(lines))
        if len(steps) - 1 - best >= self.patience:
            log.info(
                "train: no improvement since step %d, stopped at step %d (train.patience=%d)",
                steps[best],
                state.global_step,
                self.patience,
            )
            control.should_training_stop = True


class ProgressBar(TrainerCallback):
    """Shows a training's progress: steps, loss, tokens per second without padding, and the time left."""

    def __init__(self, counters: TrainCounters) -> None:
        """Show a progress bar with the loss and the tokens per second of `counters`."""
        self.counters = counters
        self.progress: Progress | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Start the bar; a resumed training starts it at the step of its checkpoint."""
        done, total = state.global_step, state.max_steps
        self.progress = Progress("train", total, done=done, unit="steps", is_kept=True)
        self.progress.bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Advance the bar to this step, with its loss and the tokens per second of the session."""
        pace = f"loss {self.counters.losses[-1]:.4f}, {self.counters.tokens_per_second:,.0f} tokens/s"
        if self.progress is not None:
            self.progress.reach(state.global_step, pace)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print the validation loss and the scores at this step above the bar, or log them without a bar."""
        line = f"train: step {state.global_step}, {evaluation_text(kwargs['metrics'])}"
        show = log.info if self.progress is None else self.progress.say
        show(line)

    def stop(self) -> None:
        """Stop updating the bar; its last state remains on the terminal."""
        if self.progress is not None:
            self.progress.bar.stop()
            self.progress = None


def evaluation_text(metrics: Mapping[str, float]) -> str:
    """Return an evaluation as text, as in `score 0.7107 (cmmlu 0.6893, hellaswag 0.7321)`.

    `metrics` has the Trainer's names, as `eval_loss`, `eval_score` and `eval_score/NAME`.
    """
    values = {journal_key(name): value for name, value in metrics.items()}
    totals = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items() if "/" not in name]
    by_name = [f"{name.partition('/')[2]} {value:.4f}" for name, value in values.items() if "/" in name]
    return ", ".join(totals) + (f" ({', '.join(by_name)})" if by_name else "")
