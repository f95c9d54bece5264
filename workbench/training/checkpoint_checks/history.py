"""Checks trainer_state.json in a checkpoint: its logged history becomes train.jsonl."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.files import read_json

FILE = "trainer_state.json"

INTEGERS = ("global_step", "max_steps", "num_train_epochs", "train_batch_size", "num_input_tokens_seen")
NUMBERS = ("epoch", "total_flos", "logging_steps", "eval_steps", "save_steps")
OPTIONAL_NUMBERS = ("best_metric", "best_global_step")
TEXTS = ("best_model_checkpoint", "trial_name")
FLAGS = ("is_local_process_zero", "is_world_process_zero", "is_hyper_param_search")
OTHER_FIELDS = ("log_history", "stateful_callbacks", "trial_params")
"""All fields of the Trainer's state by type; texts and optional numbers may be null."""

FINITE = ("step", "epoch", "loss")
EVALUATED = ("eval_loss", "eval_score")
"""Keys of a logged line that plots and comparisons need; those in FINITE are never NaN."""

LARGEST = 1e300
"""Largest number that can have been measured."""


def trainer_state_problems(folder: Path, *, is_final: bool, chooses: bool) -> Iterator[str]:
    """Yield the problems of a checkpoint's trainer_state.json.

    Callers must stop at the first problem: later checks rely on earlier ones.

    Args:
        folder: The checkpoint; its name ends with the step.
        is_final: Whether this was the last step.
        chooses: Whether evaluations decide which weights the training ends with; then the history needs one.
    """
    try:
        state = read_json(folder / FILE)
    except (OSError, ValueError):
        state = None
    if not isinstance(state, dict):
        yield f"{FILE} is damaged"
        return
    yield from _field_problems(state)
    step = int(folder.name.rpartition("-")[2])
    if state["global_step"] != step:
        yield f"{FILE}: global_step is {state['global_step']} (expected {step})"
    yield from _line_problems(state["log_history"], step)
    logged = {key for line in state["log_history"] for key in line}
    if is_final and "loss" not in logged:
        yield f"{FILE}: log_history has no loss"
    if chooses and not logged & set(EVALUATED):
        yield f"{FILE}: log_history has no evaluation"


def _field_problems(state: Mapping[str, Any]) -> Iterator[str]:
    """Yield a problem for each field of another type than the Trainer writes, and for each unknown field."""
    for name in (*INTEGERS, *NUMBERS, *OPTIONAL_NUMBERS):
        value = state.get(name)
        is_right_type = isinstance(value, int) or name not in INTEGERS
        if not (is_number(value) and is_right_type) and not (name in OPTIONAL_NUMBERS and value is None):
            yield f"{FILE}: {name} is {value!r:.40} (expected a number)"
    for name in TEXTS:
        if not isinstance(state.get(name), str | None):
            yield f"{FILE}: {name} is {state[name]!r:.40} (expected text)"
    for name in FLAGS:
        if not isinstance(state.get(name), bool):
            yield f"{FILE}: {name} is {state.get(name)!r:.40} (expected true or false)"
    known = {*INTEGERS, *NUMBERS, *OPTIONAL_NUMBERS, *TEXTS, *FLAGS, *OTHER_FIELDS}
    for name in sorted(state.keys() - known):
        yield f"{FILE}: {name!r:.40} is not a field of the Trainer's state"
    callbacks, history = state.get("stateful_callbacks"), state.get("log_history")
    if not isinstance(callbacks, dict) or not isinstance(callbacks.get("TrainerControl"), dict):
        yield f"{FILE}: stateful_callbacks is {callbacks!r:.40} (expected a TrainerControl)"
    if not isinstance(history, list):
        yield f"{FILE}: log_history is {history!r:.40} (expected a list)"


def _line_problems(history: list[Any], step: int) -> Iterator[str]:
    """Yield the problems of `log_history` in a checkpoint that was saved after `step` steps."""
    previous = 0
    for index, line in enumerate(history):
        where = f"{FILE}: log_history[{index}]"
        if not isinstance(line, dict):
            yield f"{where} is {line!r:.40} (expected an object)"
            return
        for name, value in line.items():
            may_be_nonfinite = (isinstance(value, float) or value is None) and name not in FINITE
            is_missing = value is None and name in EVALUATED
            if not (is_number(value) or may_be_nonfinite) or is_missing:
                yield f"{where}: {name!r:.40} is {value!r:.40} (expected a number)"
        logged_step = line.get("step")
        if not isinstance(logged_step, int) or not previous <= logged_step <= step or "epoch" not in line:
            yield f"{where}: step is {logged_step!r:.40} (expected {previous} to {step}, with its epoch)"
            return
        previous = logged_step


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number, not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST
