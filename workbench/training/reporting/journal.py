"""Writes and reads train.jsonl, which has a line for each logged step, and draws its plot."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from workbench.files import append_bytes, parse_json, read_json, write_atomic
from workbench.run_dir import RunDir
from workbench.training.reporting.loss_plot import DRAWN, loss_plot_svg

log = logging.getLogger("workbench")

EVALUATED = ("eval_loss", "eval_score")
"""The Trainer's names of the metrics that decide which checkpoint is best."""


class Journal(TrainerCallback):
    """Writes logged values to train.jsonl, the same after an interruption as without, and draws loss.svg."""

    def __init__(self, folder: Path) -> None:
        """Write train.jsonl and loss.svg into `folder`."""
        self.folder = folder
        self.path = RunDir(folder).train_jsonl

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Rewrite train.jsonl from the checkpoint's history, without lines of later steps, which repeat."""
        rewrite_journal(self.folder, state.log_history)

    def on_log(self, args: TrainingArguments, state: TrainerState, *_: Any, **kwargs: Any) -> None:
        """Append a line for a loss or an evaluation, but not for the Trainer's final summary."""
        logs: Mapping[str, Any] = kwargs["logs"]
        if not logs.keys() & {"loss", *EVALUATED}:
            return
        line = journal_line(state.global_step, logs)
        append_bytes(self.path, text_line(line).encode())

    def on_save(self, *_: Any, **__: Any) -> None:
        """Redraw loss.svg with each checkpoint."""
        draw(self.folder, journal_lines(self.path))


def journal_key(name: str) -> str:
    """Convert a key that the Trainer logs to its key in train.jsonl: `eval_score` -> `score`.

    `eval_loss` becomes `validation_loss`.
    """
    return "validation_loss" if name == "eval_loss" else name.removeprefix("eval_")


def journal_line(step: int, logs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of train.jsonl, key -> value: first the step, the others sorted by the Trainer's keys.

    Args:
        step: Number of optimizer steps done.
        logs: The values that the Trainer has logged at this step.
    """
    return {"step": step, **{journal_key(name): logs[name] for name in sorted(logs) if name != "step"}}


def text_line(values: Mapping[str, Any]) -> str:
    """Return values as a line of JSON with its newline; Chinese characters are not escaped."""
    return json.dumps(values, ensure_ascii=False) + "\n"


def rewrite_journal(folder: Path, history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write train.jsonl and loss.svg from a checkpoint's history, and return the lines as dicts.

    Log a warning if lines of these steps in train.jsonl were changed.

    Args:
        folder: The run folder.
        history: `log_history` of the checkpoint's TrainerState; empty if there is no checkpoint.
    """
    lines = [journal_line(logs["step"], logs) for logs in history if logs.keys() & {"loss", *EVALUATED}]
    path, last = RunDir(folder).train_jsonl, lines[-1]["step"] if lines else 0
    if lines and [line for line in journal_lines(path) if line["step"] <= last] != lines:
        log.warning("%s: was changed since it was written; restored from the checkpoint", path)
    write_atomic(path, "".join(map(text_line, lines)))
    draw(folder, lines)
    return lines


def logged_history(checkpoint: Path) -> list[dict[str, Any]]:
    """Return the Trainer's `log_history` of an undamaged checkpoint folder, one dict per log call.

    Raises:
        OSError, ValueError: trainer_state.json can't be read, or isn't JSON.
    """
    history = read_json(checkpoint / "trainer_state.json")["log_history"]
    assert isinstance(history, list)
    return history


def draw(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write loss.svg into the run folder from lines of train.jsonl, if any has a loss or validation loss."""
    if any(line.keys() & DRAWN for line in lines):
        write_atomic(RunDir(folder).loss_svg, loss_plot_svg(lines, folder.name))


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a train.jsonl as dicts, without damaged lines; empty if there is no file."""
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
    """Return (step, value) of each evaluation in lines of train.jsonl; a higher value is better.

    The value is the score, or without a score the negative validation loss.
    """
    values = []
    for line in lines:
        if "score" in line:
            values.append((line["step"], line["score"]))
        elif "validation_loss" in line:
            values.append((line["step"], -line["validation_loss"]))
    return values


def best_step(lines: Sequence[Mapping[str, Any]]) -> int:
    """Return the step of the best evaluation (there must be one); if several are equal, of the first."""
    return max(evaluations(lines), key=lambda evaluation: evaluation[1])[0]
