"""Writes the leaderboard as one self-contained HTML file."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workbench.config.names import MODELS, UNTRAINED
from workbench.evaluation.records import Prediction
from workbench.files import settle_file
from workbench.leaderboard import formatting
from workbench.leaderboard.collect import Run
from workbench.leaderboard.outputs.model_folders import merge_proof
from workbench.leaderboard.plot import gain_axis, panels
from workbench.leaderboard.view_model import (
    BETTER,
    UNSURE,
    WORSE,
    Board,
    Row,
    RunView,
    is_share,
    trained_and_base,
)
from workbench.run_dir import write_atomic
from workbench.shown import clean

HERE = Path(__file__).parent
CLASSES = {BETTER: "better", WORSE: "worse", UNSURE: "unsure"}

LONGEST = 1200
"""Characters of a text that are shown, from its end, where the question is."""


def write(board: Board, folder: Path) -> Path:
    """Write leaderboard.html into `folder` and return its path."""
    path = folder / "leaderboard.html"
    settle_file(path)
    write_atomic(path, html(board))
    return path


def html(board: Board) -> str:
    """Return the page; equal boards give equal bytes."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= FILTERS
    rows = [row for view in board.runs for row in view.rows]
    models = {name for row in rows for name in row.scores}
    text = environment.get_template("run_page.html").render(
        board=board,
        panels=panels(board.runs),
        gain_axes={language: gain_axis(board.runs, language) for language in board.languages},
        anchors={view.run.label: f"run-{index}" for index, view in enumerate(board.runs, 1)},
        shown_models=[name for name in MODELS if name in models],
        classes=CLASSES,
        untrained=UNTRAINED,
        coverage=formatting.coverage(rows),
        num_rows=len(rows),
        num_benchmarks=len({row.benchmark for row in rows}),
        num_answers=sum(score.num_items for row in rows for score in row.scores.values()),
        trained_and_base=trained_and_base,
        is_target=is_target,
        is_chosen=is_chosen,
        style=(HERE / "run_page.css").read_text(encoding="utf-8"),
        script=(HERE / "run_page.js").read_text(encoding="utf-8"),
    )
    return clean(text.lstrip())


def sha256(text: str) -> str:
    """Return the hash with which the page's Content-Security-Policy allows its own style and script."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def is_target(answer: Prediction, choice: int) -> bool:
    """Return whether a choice is a target, by its index or, for generated answers, its text."""
    targets = answer.target if isinstance(answer.target, list) else [answer.target]
    return choice in targets or answer.choices[choice] in targets


def is_chosen(answer: Prediction, choice: int) -> bool:
    """Return whether the model answered a choice, by its index or, for generated answers, its text."""
    return answer.prediction in (choice, answer.choices[choice])


def right_answer(answer: Prediction) -> str:
    """Return the target, or all targets, of an item without choices."""
    return " / ".join(map(str, answer.target)) if isinstance(answer.target, list) else str(answer.target)


def answered(answer: Prediction) -> str:
    """Return the model's answer to an item without choices."""
    text = answer.generation if answer.generation is not None else answer.prediction
    return "" if text is None else str(text)


def likelihoods(answer: Prediction) -> list[str]:
    """Return the log-likelihood of each choice in nats; empty if there are none."""
    if len(answer.loglikelihoods) != len(answer.choices):
        return []
    return [f"{value:.2f}".replace("-", "−") for value in answer.loglikelihoods]


def shortened(text: str) -> str:
    """Return the end of a long text, with the number of omitted characters."""
    return text if len(text) <= LONGEST else f"… ({len(text) - LONGEST:,} characters)\n{text[-LONGEST:]}"


def searchable(view: RunView) -> str:
    """Return the text in which the page's search finds a run."""
    names = [row.benchmark for row in view.rows]
    return clean(" ".join([view.run.label, view.run.base_model, view.run.recipe, *names]).lower())


def searchable_row(row: Row) -> str:
    """Return the text in which the page's search finds a row."""
    return clean(f"{row.run} {row.benchmark} {row.metric} {row.any_score.protocol}".lower())


def measured_train(run: Run) -> dict[str, Any]:
    """Return the numbers that were measured in training."""
    train = run.measured.get("train")
    values = train.items() if isinstance(train, dict) else ()
    return {name: value for name, value in values if isinstance(value, int | float)}


def measured_rows(run: Run) -> list[tuple[str, str, str]]:
    """Return step, name and value of every measurement in run.json, except those of scoring."""
    rows = []
    for step, values in run.measured.items():
        if isinstance(values, dict) and step not in ("evaluate", "steps"):
            for name, value in values.items():
                if value is not None and not isinstance(value, dict | list):
                    rows.append((step, name.replace("_", " "), formatting.measured(name, value)))
    return rows


def measured_evaluate(run: Run, benchmark: str) -> list[tuple[str, str]]:
    """Return how long scoring each model on a benchmark took."""
    rows = []
    evaluate = run.measured.get("evaluate")
    for model, by_benchmark in (evaluate if isinstance(evaluate, dict) else {}).items():
        values = by_benchmark.get(benchmark) if isinstance(by_benchmark, dict) else None
        if isinstance(values, dict):
            times = [formatting.measured(name, value) for name, value in values.items() if "second" in name]
            rows.append((model, ", ".join(times)))
    return rows


def answer_counts(run: Run) -> str:
    """Return how many answers of each model stopped or repeated themselves; empty if they weren't counted."""
    try:
        answers = run.trained["answers"]
        count, limit = int(answers["prompts"]), int(answers["max_new_tokens"])
        by_model = [
            f"{name} {int(counts['stopped'])} end by themselves, {int(counts['repeating'])} repeat themselves"
            for name, counts in answers["models"].items()
        ]
        prompts = f"{answers['of']} prompts"
        return f"Of {count} answers to {prompts}, at most {limit} tokens each: {'; '.join(by_model)}."
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return ""


FILTERS = {
    "answer_counts": answer_counts,
    "answered": answered,
    "right_answer": right_answer,
    "change": formatting.change,
    "clean": lambda value: clean(str(value)),
    "equal": formatting.equal,
    "explanation": formatting.explanation,
    "interval": formatting.interval,
    "is_share": is_share,
    "items": formatting.items,
    "language": formatting.language,
    "letters": formatting.letters,
    "likelihoods": likelihoods,
    "mean": formatting.mean,
    "measured": lambda value, name: formatting.measured(name, value),
    "measured_evaluate": measured_evaluate,
    "measured_rows": measured_rows,
    "measured_train": measured_train,
    "merge_proof": merge_proof,
    "metric": formatting.metric,
    "number": formatting.number,
    "protocol": formatting.protocol,
    "searchable": searchable,
    "searchable_row": searchable_row,
    "sha256": sha256,
    "shortened": shortened,
    "tick": formatting.tick,
}
