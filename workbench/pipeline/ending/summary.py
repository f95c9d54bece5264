"""Summarizes a finished run: its files, losses, scores, and the next commands to type."""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len

from workbench.config import Config, Step
from workbench.config.model import Task
from workbench.config.names import HELD_OUT
from workbench.config.publishing.export import ExportFormat
from workbench.models.architecture import is_native
from workbench.pipeline.ending.objective import read_mapping, training_report
from workbench.pipeline.run_models import model_in
from workbench.run_dir import RunDir
from workbench.shown import clean
from workbench.wrapping import output_width, padded, wrapped

log = logging.getLogger("workbench")

SUMMARIZED = {Step.train, Step.merge, Step.evaluate, Step.export, Step.tokenizer, Step.extend}
"""Steps after which a run is summarized; the others end with a message of their own."""

MADE = {
    "adapter": "trained adapter",
    "combined": "combined adapter",
    "search": "gain by weights, and the curve",
    "model": "trained model",
    "merged": "merged model",
    "export": "exported model",
    "export.gguf": "exported model",
    "adapter.gguf": "exported LoRA",
    "tokenizer": "tokenizer",
    "extended": "model with a larger vocabulary",
    "loss.svg": "loss curve",
    "results.json": "scores",
    "predictions": "every answer",
}
"""File or folder of a run -> its description."""

WORKBENCH = ("python", "-m", "workbench")

LABEL_WIDTH, INDENT = 10, "    "
"""Columns of the label before each line, and indentation of the continuation lines of a command."""


def print_summary(config: Config, run_dir: RunDir) -> None:
    """Log the summary of a run, if there is one."""
    if text := summary(config, run_dir, output_width()):
        log.info("%s", text, extra={"is_wrapped": True})


def summary(config: Config, run_dir: RunDir, width: int) -> str:
    """Return the summary of a run as text of several lines; "" if none of its steps is in SUMMARIZED.

    Args:
        config: The configuration.
        run_dir: The run.
        width: Columns to wrap at; only a path or word that is longer exceeds them.
    """
    if not SUMMARIZED & set(config.steps):
        return ""
    blocks = {
        "made": made_files(config, run_dir),
        "loss": losses(run_dir),
        "scores": score_lines(run_dir, is_shown=Step.leaderboard in config.steps),
        "note": held_out_note(config, run_dir),
        "answers": answers(run_dir),
        "chats": chat_lines(config, run_dir),
    }
    lines = ["== done"]
    for label, texts in blocks.items():
        for number, text in enumerate(texts):
            first, *further = wrapped(clean(text), width - LABEL_WIDTH)
            lines.append(f"{'' if number else label:<{LABEL_WIDTH}}{first}")
            lines += [" " * LABEL_WIDTH + line for line in further]
    commands = next_commands(config, run_dir)
    lines += ["next"] if commands else []
    lines += [clean(line) for words in commands for line in pasteable(words, width)]
    return "\n".join(lines)


def made_files(config: Config, run_dir: RunDir) -> list[str]:
    """Return a line for each file or folder of MADE that the run has, and for an export at `export.path`.

    A line is the path and its description.
    """
    paths = {run_dir.path / name: description for name, description in MADE.items()}
    if Step.export in config.steps and config.export.path:
        is_lora = config.export.format is ExportFormat["gguf-lora"]
        paths[Path(config.export.path)] = MADE["adapter.gguf" if is_lora else "export"]
    descriptions = {str(path): description for path, description in paths.items() if path.exists()}
    longest = max(map(cell_len, descriptions), default=0)
    return [f"{padded(path, longest)}  {description}" for path, description in descriptions.items()]


def losses(run_dir: RunDir) -> list[str]:
    """Return a line with the validation loss before and after training, else with the training losses.

    The list is empty if nothing was trained.
    """
    report = training_report(run_dir)
    keys = {
        "validation loss": ("validation_loss_before", "validation_loss"),
        "training loss": ("loss_first", "loss_last"),
    }
    for name, (first_key, last_key) in keys.items():
        first, last = report.get(first_key), report.get(last_key)
        if isinstance(last, int | float):
            start = f"{first:.4f} → " if isinstance(first, int | float) and first != last else ""
            return [f"{name} {start}{last:.4f}"]
    return []


def score_lines(run_dir: RunDir, *, is_shown: bool) -> list[str]:
    """Return the lines of `scores` with those of base and trained model; [] if the run has no scores."""
    if not run_dir.results_json.is_file():
        return []
    from workbench.pipeline.ending.scores import scores  # the statistics of scores take a second

    return scores(run_dir, is_shown=is_shown)


def held_out_note(config: Config, run_dir: RunDir) -> list[str]:
    """Return a line on how the validation loss and the benchmark `held_out` differ; [] unless both exist."""
    scores = read_mapping(run_dir.results_json).get("scores") or []
    is_scored = any(score.get("benchmark") == HELD_OUT for score in scores)
    if not is_scored or training_report(run_dir).get("validation_loss") is None:
        return []
    unit = "tokens" if config.model.task is Task.causal_lm else "labels"
    return [
        f"validation loss and {HELD_OUT} are of the same rows: the loss is the trainer's mean over all their "
        f"{unit}, {HELD_OUT} scores each row by itself, so that models are compared row by row"
    ]


def answers(run_dir: RunDir) -> list[str]:
    """Return a line with the number of sampled answers that end by themselves, before and after training.

    The list is empty if no answers were sampled.
    """
    report = read_mapping(run_dir.train_json).get("answers")
    if not isinstance(report, dict):
        return []
    stopped = [counts["stopped"] for counts in report["models"].values()]
    return [f"{' → '.join(map(str, stopped))} of {report['prompts']} end by themselves"]


def chat_lines(config: Config, run_dir: RunDir) -> list[str]:
    """Return a line for each set of `data.template_arguments` with which training rows were rendered.

    The list is empty without arguments, and for runs without weights.
    """
    folders = (run_dir.adapter, run_dir.combined, run_dir.merged, run_dir.model)
    if config.model.task is not Task.causal_lm or not any(folder.is_dir() for folder in folders):
        return []
    sections = [config.data.of_source(name) for name in config.data.sources] or [config.data]
    written = [", ".join(f"{k}={v!r}" for k, v in data.template_arguments.items()) for data in sections]
    return [
        f"rendered with {arguments}, which the saved chat template does not have by default: pass it to "
        f"apply_chat_template, or to the server as chat_template_kwargs"
        for arguments in dict.fromkeys(filter(None, written))
    ]


def next_commands(config: Config, run_dir: RunDir) -> list[list[str]]:
    """Return commands for the run's adapter or model, as words for the shell; empty if it has neither."""
    has_model = run_dir.model.is_dir() or run_dir.merged.is_dir()
    if not has_model and not run_dir.adapter.is_dir() and not run_dir.combined.is_dir():
        return []
    run_dir_word, is_causal = shell_word("run_dir", run_dir.path), config.model.task is Task.causal_lm
    commands = [["recipe=chat", run_dir_word]] if is_causal else []
    commands.append(["recipe=predict", run_dir_word, "predict.input=FILE"])
    if not has_model:
        commands.append(["recipe=merge", run_dir_word])
    elif is_causal and Step.export not in config.steps and _is_open_llama(config, run_dir):
        commands.append(["recipe=export", run_dir_word, "export.format=llama"])
    if run_dir.results_json.is_file() and Step.leaderboard not in config.steps:
        commands.append(["recipe=leaderboard"])
    return [[*WORKBENCH, *words] for words in commands]


def _is_open_llama(config: Config, run_dir: RunDir) -> bool:
    """Return whether the run's trained or merged model can be exported: Open-Llama's code computes it."""
    folder = run_dir.model if run_dir.model.is_dir() else run_dir.merged
    return not is_native(model_in(folder, config.model))


def shell_word(key: str, path: Path) -> str:
    """Return `key=path` as one word quoted for the shell."""
    return shlex.quote(f"{key}={path}")


def pasteable(words: Sequence[str], width: int) -> list[str]:
    """Split a command's words into lines of at most `width` columns that end in a backslash.

    The last line has no backslash. A longer word gets a line of its own.
    """
    lines = ["  " + words[0]]
    for word in words[1:]:
        if cell_len(f"{lines[-1]} {word} \\") <= width:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(f"{INDENT}{word}")
    return lines
