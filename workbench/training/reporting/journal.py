"""train.jsonl, a JSON line a logged step, and what is drawn from it."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from workbench.files import append_bytes, parse_json, read_json, write_atomic
from workbench.run_dir import RunDir
from workbench.training.reporting.loss_plot import DRAWN, loss_curve

log = logging.getLogger("workbench")

EVALUATED = ("eval_loss", "eval_score")
"""The Trainer's names of what tells the best checkpoint."""


class Journal(TrainerCallback):
    """Writes what is logged, as if the training had never been interrupted."""

    def __init__(self, folder: Path) -> None:
        """Write `folder`/train.jsonl and loss.svg."""
        self.folder = folder
        self.path = RunDir(folder).train_jsonl

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Drop the lines of steps that will be taken again."""
        restored(self.folder, state.log_history)

    def on_log(self, args: TrainingArguments, state: TrainerState, *_: Any, **said: Any) -> None:
        """Add a line for a training step or a validation; the Trainer's closing summary is neither."""
        logs: Mapping[str, Any] = said["logs"]
        if not logs.keys() & {"loss", *EVALUATED}:
            return
        line = journal_line(state.global_step, logs)
        append_bytes(self.path, f"{json.dumps(line)}\n".encode())

    def on_save(self, *_: Any, **__: Any) -> None:
        """Draw the curve anew."""
        draw(self.folder, journal_lines(self.path))


def our_name(name: str) -> str:
    """What the Trainer calls eval_loss, eval_score or eval_score/NAME."""
    return "validation_loss" if name == "eval_loss" else name.removeprefix("eval_")


def journal_line(step: int, logs: Mapping[str, Any]) -> dict[str, Any]:
    """The line of train.jsonl for what the Trainer logs at a step; keys in the order of a checkpoint's."""
    return {"step": step, **{our_name(name): logs[name] for name in sorted(logs) if name != "step"}}


def restored(folder: Path, history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write train.jsonl and its curve as a checkpoint's history tells them, and return the lines.

    Args:
        folder: of the run.
        history: `log_history` of the checkpoint's TrainerState; empty where there is no checkpoint.
    """
    lines = [journal_line(logs["step"], logs) for logs in history if logs.keys() & {"loss", *EVALUATED}]
    path, last = RunDir(folder).train_jsonl, lines[-1]["step"] if lines else 0
    if lines and [line for line in journal_lines(path) if line["step"] <= last] != lines:
        log.warning("%s: not as it was written, made again from the checkpoint", path)
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))
    draw(folder, lines)
    return lines


def history_of(checkpoint: Path) -> list[dict[str, Any]]:
    """What the Trainer had logged when it wrote a checkpoint, whose files have been found whole."""
    history = read_json(checkpoint / "trainer_state.json")["log_history"]
    assert isinstance(history, list)
    return history


def draw(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw the curve of train.jsonl, where there is one."""
    if any(line.keys() & DRAWN for line in lines):
        write_atomic(RunDir(folder).loss_svg, loss_curve(lines, folder.name))


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a train.jsonl that are whole; one that was cut off or damaged is left out."""
    if not path.is_file():
        return []
    values: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            value = parse_json(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int):
            values.append(value)
    return values


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
