"""train.jsonl, a JSON line a logged step, and what is drawn from it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from workbench.run_dir import write_atomic
from workbench.training import events
from workbench.training.curve import DRAWN, loss_curve

EVALUATED = ("eval_loss", "eval_score")
"""The Trainer's names of what tells the best checkpoint."""


class Journal(TrainerCallback):
    """Writes what is logged, as if the training had never been interrupted."""

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        """Write `folder`/train.jsonl and loss.svg; with `tensorboard` an event file too."""
        self.folder = folder
        self.path = folder / "train.jsonl"
        self.events = events.event_file(folder / "tensorboard") if tensorboard else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Drop the lines of steps that will be taken again."""
        lines = [line for line in journal_lines(self.path) if line["step"] <= state.global_step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        if self.events:
            events.begin(self.events)
        for line in lines:
            self.show(line)

    def on_log(self, args: TrainingArguments, state: TrainerState, *_: Any, **said: Any) -> None:
        """Add a line for a training step or a validation; the Trainer's closing summary is neither."""
        logs: Mapping[str, Any] = said["logs"]
        if not logs.keys() & {"loss", *EVALUATED}:
            return
        line = {"step": state.global_step, **{our_name(name): value for name, value in logs.items()}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.show(line)

    def on_save(self, *_: Any, **__: Any) -> None:
        """Draw the curve anew."""
        lines = journal_lines(self.path)
        if any(line.keys() & DRAWN for line in lines):
            write_atomic(self.folder / "loss.svg", loss_curve(lines, self.folder.name))

    def show(self, line: Mapping[str, Any]) -> None:
        """Add a line to the event file."""
        if self.events:
            scalars = {name: value for name, value in line.items() if name != "step" and value is not None}
            events.append(self.events, line["step"], scalars)


def our_name(name: str) -> str:
    """What the Trainer calls eval_loss, eval_score or eval_score/NAME."""
    return "validation_loss" if name == "eval_loss" else name.removeprefix("eval_")


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a train.jsonl; a last one that was cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def evaluations(lines: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Step and worth of each evaluation: the score where there is one, else minus the loss."""
    found = []
    for line in lines:
        if "score" in line:
            found.append((line["step"], line["score"]))
        elif "validation_loss" in line:
            found.append((line["step"], -line["validation_loss"]))
    return found


def best_step(lines: Sequence[Mapping[str, Any]]) -> int:
    """The step of the best evaluation, the first of equals."""
    return max(evaluations(lines), key=lambda evaluation: evaluation[1])[0]
