"""Formats the comparison of two models as text, CSV and JSON."""

import csv
import io
import math
from functools import partial
from pathlib import Path
from typing import Any

from workbench.files import write_atomic, write_json
from workbench.leaderboard import formatting
from workbench.leaderboard.board import BETTER, WORSE
from workbench.leaderboard.compare_two.paired import Compared, PairedComparison
from workbench.leaderboard.compare_two.sides import Side
from workbench.leaderboard.early_decisions import COMPARE_JSON
from workbench.leaderboard.outputs.csv_files import field
from workbench.leaderboard.shown_table import Table
from workbench.statistics.paired import PairedTest

SCHEMA_VERSION = 1
COMPARE_CSV = "compare.csv"
HEADER = [
    "benchmark",
    "metric",
    "a",
    "b",
    "b less a",
    "interval",
    "p (all)",
    "gained",
    "lost",
    "detects",
    "b is",
]
TESTS = {
    "mcnemar-exact": "exact McNemar test",
    "sign-flip-exact": "exact sign-flip test",
    "linearised-t": "t test of the linearised metric",
    "swap-permutation": "swap permutation test",
    "ratio-t": "t test of the ratio",
}


def text(comparison: PairedComparison) -> str:
    """Return the comparison as a table for the terminal, with notes below."""
    lines = [f"a  {_side(comparison.first)}", f"b  {_side(comparison.second)}"]
    table = Table(
        title="\n".join(lines),
        header=HEADER,
        rows=[_cells(row) for row in comparison.rows],
        notes=_notes(comparison),
    )
    return table.text()


def _side(side: Side) -> str:
    return f"{side.name} ({side.tool})" if side.tool else side.name


def _cells(row: Compared) -> list[str]:
    test = row.test
    number = partial(formatting.number, is_share=row.is_share)
    change = partial(_change, is_share=row.is_share)
    values = [row.benchmark, row.metric, number(row.first), number(row.second)]
    if test is None:
        return [*values, change(row.second - row.first), "", "", "", "", "", row.verdict]
    interval = "" if math.isnan(test.low) else f"{change(test.low)} to {change(test.high)}"
    p_value = "" if row.p_adjusted is None else formatting.p_value(row.p_adjusted)
    detects = "none" if row.detectable is None else number(row.detectable)
    counts = [str(row.gained), str(row.lost)]
    return [*values, change(test.difference), interval, p_value, *counts, detects, row.verdict]


def _change(value: float, is_share: bool) -> str:
    return f"{100 * value:+.1f}" if is_share else f"{value:+.3g}"


def _notes(comparison: PairedComparison) -> list[str]:
    count, percent = len(comparison.rows), 100 * comparison.alpha
    notes = [
        f"Shares are in percent. Intervals and p take all benchmarks together ({count}): a false "
        f"difference has a chance of at most {percent:g}%.",
        "detects: the smallest true difference that the test finds 4 times out of 5; none: not even the "
        "largest one, because there are too few items.",
    ]
    tests = dict.fromkeys(row.test.test for row in comparison.rows if row.test is not None)
    if tests:
        notes.append("Tests: " + ", ".join(TESTS.get(name, name) for name in tests) + ".")
    for row in comparison.rows:
        notes += [f"{row.benchmark}: {note}" for note in row.notes]
        notes += _subject_notes(row)
    return notes + [f"{name}: not compared: {reason}" for name, reason in comparison.left_out.items()]


def _subject_notes(row: Compared) -> list[str]:
    if not row.subjects:
        return []
    differences = [
        f"{subject.name} {_change(subject.test.difference, row.is_share)} ({subject.verdict})"
        for subject in row.subjects
        if subject.verdict in (BETTER, WORSE)
    ]
    told = "; ".join(differences) or "no difference shown in any of them"
    return [f"{row.benchmark}: {len(row.subjects)} subjects, each tested: {told}"]


def as_json(comparison: PairedComparison) -> dict[str, Any]:
    """Return the comparison as the values of compare.json."""
    return {
        "schema_version": SCHEMA_VERSION,
        "a": _side_values(comparison.first),
        "b": _side_values(comparison.second),
        "alpha": comparison.alpha,
        "comparisons": [_row_values(row) for row in comparison.rows],
        "left_out": comparison.left_out,
    }


def _side_values(side: Side) -> dict[str, str]:
    return {"name": side.name, "model": side.model, "tool": side.tool, "run": side.run.label}


def _row_values(row: Compared) -> dict[str, Any]:
    return {
        "benchmark": row.benchmark,
        "metric": row.metric,
        "first": row.first,
        "second": row.second,
        "num_first": row.num_first,
        "num_second": row.num_second,
        "paired_by": row.paired_by,
        **test_values(row.test),
        **({"gained": row.gained, "lost": row.lost} if row.test is not None else {}),
        "p_adjusted": row.p_adjusted,
        "detectable": row.detectable,
        "verdict": row.verdict,
        "notes": row.notes,
        "subjects": [
            {
                "subject": subject.name,
                **test_values(subject.test),
                "p_adjusted": subject.p_adjusted,
                "verdict": subject.verdict,
            }
            for subject in row.subjects
        ],
    }


def test_values(test: PairedTest | None) -> dict[str, Any]:
    """Return the numbers of a test by name, as JSON values; NaN becomes None.

    The keys are the same without a test, and all values None.
    """
    names = ("difference", "low", "high", "p_value", "test", "num_items", "num_clusters", "gained", "lost")
    return {name: None if test is None else none_if_nan(getattr(test, name)) for name in names}


def none_if_nan(value: Any) -> Any:
    """Return None for NaN, which JSON doesn't have; else the value."""
    return None if isinstance(value, float) and math.isnan(value) else value


def as_csv(comparison: PairedComparison) -> str:
    """Return the comparison as CSV, one line per benchmark."""
    rows = [
        {key: value for key, value in _row_values(row).items() if key not in ("subjects", "notes")}
        | {"notes": "; ".join(row.notes)}
        for row in comparison.rows
    ]
    names = ["model_a", "model_b", *(rows[0] if rows else [])]
    written = io.StringIO()
    writer = csv.DictWriter(written, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = {"model_a": comparison.first.name, "model_b": comparison.second.name, **row}
        writer.writerow({name: field(value) for name, value in values.items()})
    return written.getvalue()


def write(comparison: PairedComparison, folder: Path) -> list[Path]:
    """Write compare.json and compare.csv into a folder, which is created if need be; return their paths."""
    paths = [folder / COMPARE_JSON, folder / COMPARE_CSV]
    write_json(paths[0], as_json(comparison))
    write_atomic(paths[1], as_csv(comparison))
    return paths
