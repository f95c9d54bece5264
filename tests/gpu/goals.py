"""The goals of a day on a GPU beside what its results say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def read(out: Path) -> list[Line]:
    """Return the lines of a file of results."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def value(lines: list[Line], key: str, **fields: Any) -> Any:
    """Return `key` of the last line with these fields; None if there is none."""
    matching = [line for line in lines if key in line and fields.items() <= line.items()]
    return matching[-1][key] if matching else None


def ratio(above: float | None, below: float | None) -> float | None:
    """Return a quotient; None if a number is missing."""
    return above / below if above and below else None


def rate(lines: list[Line], case: str, method: str = "none", part: str = "train") -> Any:
    """Return the tokens a second of a training."""
    return value(lines, "tokens_per_second", part=part, case=case, method=method)


def scoring_ratio(lines: list[Line]) -> float | None:
    """Return the harness's seconds divided by ours."""
    seconds = [value(lines, "seconds", part="scores", side=side) for side in ("harness", "workbench")]
    return ratio(*seconds)


def plan_ratio(lines: list[Line]) -> float | None:
    """Return the planned peak of memory divided by the measured one, in bfloat16 with full rows."""
    fields = {"part": "train", "case": "full rows", "method": "none"}
    return ratio(value(lines, "planned_gib", **fields), value(lines, "peak_gib", **fields))


GOALS: tuple[tuple[str, str, Callable[[list[Line]], Any], Callable[[Any], bool]], ...] = (
    (
        "LoRA step, 8B, bf16, tokens a second",
        "at least 12,500 on an H100",
        lambda lines: rate(lines, "full rows"),
        lambda figure: figure >= 12_500,
    ),
    (
        "the same in NF4, share of bf16",
        "at least 0.85",
        lambda lines: ratio(rate(lines, "full rows", "nf4"), rate(lines, "full rows")),
        lambda figure: figure >= 0.85,
    ),
    (
        "packed rows, times TRL with packing",
        "more than 1",
        lambda lines: ratio(rate(lines, "packed"), rate(lines, "packed", part="trl")),
        lambda figure: figure > 1,
    ),
    (
        "time with train.deterministic, times that without",
        "at most 1.35",
        lambda lines: ratio(rate(lines, "full rows, not deterministic"), rate(lines, "full rows")),
        lambda figure: figure <= 1.35,
    ),
    (
        "time with model.compile, times that without",
        "less than 1",
        lambda lines: ratio(rate(lines, "full rows"), rate(lines, "full rows, compiled")),
        lambda figure: figure < 1,
    ),
    (
        "planned peak of memory, times the measured",
        "0.85 to 1.15",
        plan_ratio,
        lambda figure: 0.85 <= figure <= 1.15,
    ),
    ("CMMLU, times lm-evaluation-harness", "at least 4", scoring_ratio, lambda figure: figure >= 4),
    (
        "CMMLU, items with another answer than the harness's",
        "0, or within rounding",
        lambda lines: value(lines, "other_answers", part="scores", side="both"),
        lambda figure: figure == 0,
    ),
    (
        "the same bytes over batch sizes and after kill -9",
        "yes",
        lambda lines: value(lines, "is_same", part="bytes"),
        lambda figure: figure is True,
    ),
    (
        "tests marked gpu",
        "all pass",
        lambda lines: value(lines, "exit_status", part="tests"),
        lambda figure: figure == 0,
    ),
    (
        "decoding at batch 32, times generate",
        "more than 1",
        lambda lines: ratio(
            *(
                value(lines, "tokens_per_second", part="decoding", side=side, batch=32, method="none")
                for side in ("workbench", "generate")
            )
        ),
        lambda figure: figure > 1,
    ),
)
"""What is measured, the goal, the figure in the results, and whether a figure reaches the goal."""


def table(lines: list[Line]) -> str:
    """Return a table of goals and figures in Markdown; of a dry run nothing is judged."""
    rows = ["| | goal | figure | reached |", "|---|---|---|---|"]
    is_dry = any(line.get("dry") for line in lines)
    for name, goal, figure_of, is_reached in GOALS:
        figure = figure_of(lines)
        shown = f"{figure:,.2f}" if isinstance(figure, float) else str(figure)
        verdict = "yes" if figure is not None and is_reached(figure) else "no"
        verdict = "not judged" if is_dry else verdict
        rows.append(f"| {name} | {goal} | {'not measured' if figure is None else shown} | {verdict} |")
    return "\n".join(rows)
