"""The leaderboard as one HTML file that loads nothing, with Markdown and JSON beside it."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workbench.config.names import MODELS, UNTRAINED
from workbench.evaluation.records import Prediction
from workbench.files import settle_file
from workbench.leaderboard import export, formatting, markdown
from workbench.leaderboard.collect import Run
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
from workbench.run_dir import write_atomic, write_json
from workbench.shown import clean

HERE = Path(__file__).parent
CLASSES = {BETTER: "better", WORSE: "worse", UNSURE: "unsure"}

LONGEST = 1200
"""Characters of a text that are shown: its end, where the question stands."""


def write(board: Board, folder: Path) -> Path:
    """Write leaderboard.html, .md and .json into `folder`; the path of the page."""
    path = folder / "leaderboard.html"
    for name in ("leaderboard.html", "leaderboard.md", "leaderboard.json"):
        settle_file(folder / name)
    write_atomic(path, html(board))
    write_atomic(folder / "leaderboard.md", markdown.text(board))
    write_json(folder / "leaderboard.json", export.as_json(board))
    return path


def html(board: Board) -> str:
    """The page; the same bytes for the same board."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= FILTERS
    rows = [row for view in board.runs for row in view.rows]
    models = {name for row in rows for name in row.scores}
    text = environment.get_template("page.html").render(
        board=board,
        panels=panels(board.runs),
        gain_axes={language: gain_axis(board.runs, language) for language in board.languages},
        anchors={view.run.label: f"run-{number}" for number, view in enumerate(board.runs, 1)},
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
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
    )
    return clean(text.lstrip())


def sha256(text: str) -> str:
    """The hash by which the page's policy lets its own style and script in, and nothing else."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def is_target(answer: Prediction, choice: int) -> bool:
    """Whether a choice is right, or one of the right ones, by its number or, if generated, its text."""
    targets = answer.target if isinstance(answer.target, list) else [answer.target]
    return choice in targets or answer.choices[choice] in targets


def is_chosen(answer: Prediction, choice: int) -> bool:
    """Whether a model's answer is a choice: its number, or its text where the answer was generated."""
    return answer.prediction in (choice, answer.choices[choice])


def right_answer(answer: Prediction) -> str:
    """The right answer, or all right ones, where there were no choices."""
    return " / ".join(map(str, answer.target)) if isinstance(answer.target, list) else str(answer.target)


def answered(answer: Prediction) -> str:
    """What a model said where there were no choices."""
    found = answer.generation if answer.generation is not None else answer.prediction
    return "" if found is None else str(found)


def likelihoods(answer: Prediction) -> list[str]:
    """The log-likelihood of each choice, in nats; empty where there are none."""
    if len(answer.loglikelihoods) != len(answer.choices):
        return []
    return [f"{value:.2f}".replace("-", "−") for value in answer.loglikelihoods]


def shortened(text: str) -> str:
    """The end of a text."""
    return text if len(text) <= LONGEST else f"… ({len(text) - LONGEST:,} characters)\n{text[-LONGEST:]}"


def searchable(view: RunView) -> str:
    """What a run is found by."""
    names = [row.benchmark for row in view.rows]
    return clean(" ".join([view.run.label, view.run.base_model, view.run.recipe, *names]).lower())


def searchable_row(row: Row) -> str:
    """What a score is found by."""
    return clean(f"{row.run} {row.benchmark} {row.metric} {row.any_score.protocol}".lower())


def measured_train(run: Run) -> dict[str, Any]:
    """What was measured while training; numbers only."""
    found = run.measured.get("train")
    numbers = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in numbers if isinstance(value, int | float)}


def measured_rows(run: Run) -> list[tuple[str, str, str]]:
    """Step, name and value of everything in run.json that is neither about scoring nor a fingerprint."""
    rows = []
    for step, found in run.measured.items():
        if isinstance(found, dict) and step not in ("evaluate", "steps"):
            for name, value in found.items():
                if value is not None and not isinstance(value, dict | list):
                    rows.append((step, name.replace("_", " "), formatting.measured(name, value)))
    return rows


def measured_evaluate(run: Run, benchmark: str) -> list[tuple[str, str]]:
    """For each model how long it took to score it."""
    rows = []
    found = run.measured.get("evaluate")
    for model, by_benchmark in (found if isinstance(found, dict) else {}).items():
        values = by_benchmark.get(benchmark) if isinstance(by_benchmark, dict) else None
        if isinstance(values, dict):
            parts = [formatting.measured(name, value) for name, value in values.items() if "second" in name]
            rows.append((model, ", ".join(parts)))
    return rows


def merge_proof(run: Run) -> str:
    """What the merge was proven to, in a sentence; empty where there is no report."""
    try:
        merged = run.merge_report["merged"]
        model = f"merged model ({run.merge_report['dtype']})"
        close = f"within {merged['largest']:.2g} of the {run.merge_report['reference']}'s"
        flips = f"{merged['argmax_flips']} of {merged['num_positions']} next tokens or labels differ"
        return f"The logits of the {model} are {close} (allowed: {merged['bound']:.2g}); {flips}."
    except (KeyError, TypeError, ValueError):
        return ""


def answer_counts(run: Run) -> str:
    """How many answers of each model ended by themselves and repeated themselves; empty where not counted."""
    try:
        about = run.trained["answers"]
        count, most = int(about["prompts"]), int(about["max_new_tokens"])
        parts = [
            f"{name} {int(found['stopped'])} end by themselves, {int(found['repeating'])} repeat themselves"
            for name, found in about["models"].items()
        ]
        return f"Of {count} answers to {about['of']} prompts, of {most} tokens at most: {'; '.join(parts)}."
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
