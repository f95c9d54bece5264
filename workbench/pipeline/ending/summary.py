"""The last lines of a run: what was made and where, what changed, and the next command to type."""

import logging
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len

from workbench.config import Config, Step
from workbench.config.model import Task
from workbench.leaderboard import formatting
from workbench.leaderboard.collect import collect
from workbench.leaderboard.compare import compare
from workbench.leaderboard.view_model import BETTER, UNSURE, WORSE, Row, trained_and_base
from workbench.pipeline.ending.objective import mapping_in, training_report
from workbench.run_dir import RunDir
from workbench.shown import clean
from workbench.wrapping import output_width, padded, wrapped

log = logging.getLogger("workbench")

SUMMARIZED = {Step.train, Step.merge, Step.evaluate, Step.export, Step.tokenizer, Step.extend}
"""Steps after which a run is summed up; the others end with a line of their own."""

MADE = {
    "adapter": "trained adapter",
    "model": "trained model",
    "merged": "merged model",
    "export": "exported model",
    "export.gguf": "exported model",
    "tokenizer": "tokenizer",
    "extended": "model with a larger vocabulary",
    "loss.svg": "loss curve",
    "results.json": "scores",
    "predictions": "every answer",
}
"""File or folder of a run -> what it is."""

RECIPE = ("python", "-m", "workbench")

LABEL, HANGING = 10, "    "
"""Columns of the label before each line, and what a command's further lines begin with."""


def print_summary(config: Config, run_dir: RunDir) -> None:
    """Log the block that ends a run, where there is one."""
    if text := summary(config, run_dir, output_width()):
        log.info("%s", text, extra={"is_wrapped": True})


def summary(config: Config, run_dir: RunDir, width: int) -> str:
    """The block that ends a run; empty after steps that make nothing in the run's folder.

    Args:
        config: Of the run.
        run_dir: Its folder.
        width: Columns to wrap at; only a path or word that is longer itself goes beyond.
    """
    if not SUMMARIZED & set(config.steps):
        return ""
    parts = {
        "made": made(run_dir),
        "loss": losses(run_dir),
        "scores": scores(run_dir, is_shown=Step.leaderboard in config.steps),
        "answers": answers(run_dir),
    }
    lines = ["== done"]
    for label, texts in parts.items():
        for number, text in enumerate(texts):
            first, *further = wrapped(clean(text), width - LABEL)
            lines.append(f"{'' if number else label:<{LABEL}}{first}")
            lines += [" " * LABEL + line for line in further]
    commands = next_commands(config, run_dir)
    lines += ["next"] if commands else []
    lines += [clean(line) for words in commands for line in pasteable(words, width)]
    return "\n".join(lines)


def made(run_dir: RunDir) -> list[str]:
    """The files and folders that the run has left, each with what it is."""
    found = {str(run_dir.path / name): what for name, what in MADE.items() if (run_dir.path / name).exists()}
    longest = max(map(cell_len, found), default=0)
    return [f"{padded(path, longest)}  {what}" for path, what in found.items()]


def losses(run_dir: RunDir) -> list[str]:
    """The validation loss before and after the training, else the first and last training loss."""
    report = training_report(run_dir)
    for name, kind in (("validation_loss_before", "validation_loss"), ("loss_first", "loss_last")):
        before, after = report.get(name), report.get(kind)
        if isinstance(after, int | float):
            what = "validation loss" if kind == "validation_loss" else "training loss"
            start = f"{before:.4f} → " if isinstance(before, int | float) else ""
            return [f"{what} {start}{after:.4f}"]
    return []


def scores(run_dir: RunDir, *, is_shown: bool) -> list[str]:
    """Base and trained model on each benchmark with the verdict; only verdicts where a table was shown."""
    if not run_dir.results_json.is_file():
        return []
    views = [view for view in compare(collect(run_dir.path), 0).runs if view.run.files.path == run_dir.path]
    rows = views[0].rows if views else []
    if not is_shown:
        longest = max((cell_len(clean(row.benchmark)) for row in rows), default=0)
        return [f"{padded(clean(row.benchmark), longest)}  {score_line(row)}" for row in rows]
    counts = {verdict: views[0].count(verdict) for verdict in (BETTER, WORSE, UNSURE)} if views else {}
    said = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    benchmarks = "1 benchmark" if len(rows) == 1 else f"{len(rows)} benchmarks"
    return [f"{benchmarks}: {', '.join(said)}"] if said else []


def score_line(row: Row) -> str:
    """One benchmark, as `acc 26.3 → 90.0, better (+63.7, p < 0.001)`."""
    names = trained_and_base(row.scores) or list(row.scores)
    values = " → ".join(formatting.number(row.scores[name].value, row.is_share) for name in names)
    text = f"{formatting.metric(row.metric)} {values}"
    if row.difference is None:
        return text
    change = formatting.change(row.difference.value, row.is_share)
    p_value = formatting.equal(row.difference.adjusted_p_value)
    return f"{text}, {row.difference.verdict} ({change}, p {p_value})"


def answers(run_dir: RunDir) -> list[str]:
    """How many sampled answers end by themselves, before and after the training."""
    asked = mapping_in(run_dir.train_json).get("answers")
    if not isinstance(asked, dict):
        return []
    stopped = [found["stopped"] for found in asked["models"].values()]
    return [f"{' → '.join(map(str, stopped))} of {asked['prompts']} end by themselves"]


def next_commands(config: Config, run_dir: RunDir) -> list[list[str]]:
    """What can be done with the run's model, a command each, as words for the shell."""
    is_model = run_dir.model.is_dir() or run_dir.merged.is_dir()
    if not is_model and not run_dir.adapter.is_dir():
        return []
    here = shell_word("run_dir", run_dir.path)
    found = [[*RECIPE, "recipe=chat", here]] if config.model.task is Task.causal_lm else []
    found.append([*RECIPE, "recipe=predict", here, "predict.input=FILE"])
    if not is_model:
        found.append([*RECIPE, "recipe=merge", here])
    elif found[0][3] == "recipe=chat" and Step.export not in config.steps:
        found.append([*RECIPE, "recipe=export", here, "export.format=gguf"])
    if run_dir.results_json.is_file() and Step.leaderboard not in config.steps:
        found.append([*RECIPE, "recipe=leaderboard"])
    return found


def shell_word(key: str, path: Path) -> str:
    """`key=path` as it is typed into a shell, quoted for the shell and for Hydra."""
    text = str(path)
    if re.search(r"[,()\[\]{}'\"\\$]", text):  # characters with a meaning for Hydra
        escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", text)
        text = f"'{escaped}{escaped[len(escaped.rstrip(chr(92))) :]}'"
    return shlex.quote(f"{key}={text}")


def pasteable(words: Sequence[str], width: int) -> list[str]:
    """A command over as many lines as it needs, each but the last ending in a backslash."""
    lines = ["  " + words[0]]
    for word in words[1:]:
        if cell_len(f"{lines[-1]} {word} \\") <= width:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(f"{HANGING}{word}")
    return lines
