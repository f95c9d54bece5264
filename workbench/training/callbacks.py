"""What happens at each step and each checkpoint: counting, the progress bar, the seal."""

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
from workbench.training.counters import Meter
from workbench.training.reporting.journal import best_step, evaluations, journal_lines, our_name
from workbench.training.resume import seal

log = logging.getLogger("workbench")

EXPLODED, EXPLODED_STEPS = 3.0, 10
"""So many times the loss of blind guessing, and for so many steps, that nothing can come of it any more."""

LARGEST_WEIGHT = 1e4
"""A trained weight beyond this is taken as broken: its products soon leave float16, which ends at 65,504."""

MOST_PLACES = 16
"""Rows that are named in a message."""


class Steps(TrainerCallback):
    """Closes the loss of each step, stops when it explodes, and sees to it that the last one is logged."""

    def __init__(self, meter: Meter, num_outcomes: int, rows: Dataset) -> None:
        """Tell `meter`; `num_outcomes` are the tokens or classes to choose from, or 1."""
        self.meter = meter
        self.rows = rows
        self.limit = EXPLODED * (math.log(num_outcomes) + 1) if num_outcomes > 1 else math.inf
        self.steps_above = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Log and save as often as is asked for now; a checkpoint brings what was when it was written."""
        state.compute_steps(args, state.max_steps)  # type: ignore[no-untyped-call]

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Note the rows of this step alone."""
        self.meter.step_rows = []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """A step is done.

        Raises:
            TrainingError: The loss is infinite or NaN, or has been absurd for some time or at the last step.
        """
        self.meter.end_step()
        loss = self.meter.losses[-1]
        if not math.isfinite(loss):
            bad = self.places({row for part in all_gather(self.meter.bad_rows) for row in part})
            raise TrainingError(f"train: the loss is {loss} at step {state.global_step}, rows {bad}")
        self.steps_above = self.steps_above + 1 if loss > self.limit else 0
        is_last = state.global_step >= state.max_steps
        if self.steps_above == EXPLODED_STEPS or (is_last and self.steps_above):
            step, steps = state.global_step, self.steps_above
            last = self.places({row for part in all_gather(self.meter.step_rows) for row in part})
            raise TrainingError(
                f"train: the loss exploded, {loss:.1f} at step {step}, high for {steps} steps, rows {last}"
            )
        control.should_log = control.should_log or is_last

    def places(self, numbers: set[int]) -> str:
        """The files and lines of some rows."""
        rows = zip(self.rows["row"], self.rows["where"], strict=True)
        found = [where for row, where in rows if row in numbers]
        more = [f"{len(found) - MOST_PLACES} more"] if len(found) > MOST_PLACES else []
        return ", ".join(found[:MOST_PLACES] + more)


class Seal(TrainerCallback):
    """The manifest of each checkpoint."""

    def __init__(self, identity: str, meter: Meter) -> None:
        """For checkpoints of the training `identity`, with the counters of `meter`."""
        self.identity = identity
        self.meter = meter

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **said: Any
    ) -> None:
        """Seal the checkpoint that all processes have just written.

        Raises:
            TrainingError: A trained weight is NaN, infinite or absurdly large.
        """
        for name, weight in said["model"].named_parameters():
            largest = float(weight.detach().abs().max()) if weight.requires_grad and weight.numel() else 0.0
            if not largest <= LARGEST_WEIGHT:
                raise TrainingError(
                    f"train: {name} holds a weight of {largest:g} at step {state.global_step} (beyond "
                    f"{LARGEST_WEIGHT:,.0f} is taken as broken)"
                )
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        is_final = control.should_training_stop
        barrier()
        if is_rank0():
            seal(folder, state.global_step, self.identity, self.meter.saved(), is_final=is_final)


class Patience(TrainerCallback):
    """Ends the training when it has not got better for some time."""

    def __init__(self, journal: Path, patience: int) -> None:
        """Stop after `patience` evaluations of the journal that were no better than the best."""
        self.journal = journal
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look back, after the journal has its line."""
        lines = broadcast_from_rank0(lambda: journal_lines(self.journal))
        steps = [step for step, _ in evaluations(lines)]
        best = steps.index(best_step(lines))
        if len(steps) - 1 - best >= self.patience:
            log.info("train: no better since step %d, stopped at step %d", steps[best], state.global_step)
            control.should_training_stop = True


class ProgressBar(TrainerCallback):
    """Shows steps, loss, tokens per second without padding, and the time left."""

    def __init__(self, meter: Meter) -> None:
        """Show what `meter` counts."""
        self.meter = meter
        self.progress: Progress | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Draw the bar."""
        done, total = state.global_step, state.max_steps
        self.progress = Progress("train", total, done=done, unit="steps", is_kept=True)
        self.progress.bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Show the step."""
        pace = f"loss {self.meter.losses[-1]:.4f}, {self.meter.tokens_per_second:,.0f} tokens/s"
        if self.progress is not None:
            self.progress.reach(state.global_step, pace)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **said: Any
    ) -> None:
        """Show the losses and scores of a checkpoint."""
        words = f"train: step {state.global_step}, {evaluation(said['metrics'])}"
        show = log.info if self.progress is None else self.progress.say
        show(words)

    def stop(self) -> None:
        """Stop drawing; the bar stays as it was last drawn."""
        if self.progress is not None:
            self.progress.bar.stop()
            self.progress = None


def evaluation(metrics: Mapping[str, float]) -> str:
    """What was found at a checkpoint, in words."""
    named = {our_name(name): value for name, value in metrics.items()}
    parts = [f"{name.partition('/')[2]} {value:.4f}" for name, value in named.items() if "/" in name]
    whole = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in named.items() if "/" not in name]
    return ", ".join(whole) + (f" ({', '.join(parts)})" if parts else "")
