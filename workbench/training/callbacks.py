"""What is written while a training runs: train.jsonl, the progress bar, the seal of each checkpoint."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.run_dir import write_atomic
from workbench.training.meter import Meter, peak_bytes
from workbench.training.resume import seal

log = logging.getLogger("workbench")

LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""


class Journal(TrainerCallback):
    """train.jsonl: a JSON line a logged step, as if the training had never been interrupted."""

    def __init__(self, path: Path, meter: Meter) -> None:
        """Write to `path` what `meter` counts."""
        self.path = path
        self.meter = meter

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Drop the lines of steps that will be taken again."""
        kept = [line for line in journal_lines(self.path) if line["step"] <= state.global_step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Close the step's loss; the last step always gets a line."""
        self.meter.end_step()
        control.should_log = control.should_log or state.global_step >= state.max_steps

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **said: Any
    ) -> None:
        """Add a line for a training step or a validation; the Trainer's closing summary is neither."""
        logs = said["logs"]
        line: dict[str, Any] = {"step": state.global_step, "epoch": state.epoch}
        if "eval_loss" in logs:
            self.add({**line, "validation_loss": logs["eval_loss"]})
        elif "loss" in logs:
            measured = {
                "seconds": round(self.meter.total_seconds, 3),
                "tokens_per_second": round(self.meter.tokens_per_second, 1),
                "peak_bytes": peak_bytes(),
            }
            counted = {"tokens": self.meter.tokens, "trained_tokens": self.meter.trained}
            rates = {"learning_rate": logs["learning_rate"], "grad_norm": logs.get("grad_norm")}
            self.add({**line, "loss": self.meter.mean_loss(), **rates, **counted, **measured})

    def add(self, line: dict[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a train.jsonl; a last one that was cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Seal(TrainerCallback):
    """The manifest of each checkpoint."""

    def __init__(self, identity: str, meter: Meter) -> None:
        """For checkpoints of the training `identity`, with the counters of `meter`."""
        self.identity = identity
        self.meter = meter

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Seal the checkpoint that has just been written."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        seal(folder, state.global_step, self.identity, self.meter.saved())


class ProgressBar(TrainerCallback):
    """Steps, loss, real tokens a second, time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, meter: Meter) -> None:
        """Show what `meter` counts."""
        self.meter = meter
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.begun_at = 0
        self.said = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Draw the bar."""
        self.begun_at = state.global_step
        if not self.console.is_terminal:
            return
        self.bar = Progress(
            TextColumn("train"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self.console,
            refresh_per_second=2,
        )
        self.bar.add_task("", total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Move the bar, or say a line when it is time."""
        numbers = f"loss {self.meter.losses[-1]:.4f}, {self.meter.tokens_per_second:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=state.global_step, description=numbers)
        elif time.monotonic() - self.said > LINE_SECONDS:
            self.said = time.monotonic()
            left = self.seconds_left(state)
            log.info("train: step %d of %d, %s, %s left", state.global_step, state.max_steps, numbers, left)

    def seconds_left(self, state: TrainerState) -> str:
        """At the pace of this session, as minutes and seconds."""
        pace = self.meter.session_seconds / max(state.global_step - self.begun_at, 1)
        minutes, seconds = divmod(round(pace * (state.max_steps - state.global_step)), 60)
        return f"{minutes}:{seconds:02d}"

    def stop(self) -> None:
        """Take the bar off the terminal's hands; it stays as it was last drawn."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
