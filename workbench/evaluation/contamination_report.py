"""Reads and writes contamination.json: benchmark items in the training rows, and scores without them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.records import Prediction, Score
from workbench.files import read_json, write_json
from workbench.run_record import DIGEST, self_digest
from workbench.shown import listed, message
from workbench.statistics.intervals import error_and_interval, mean

SCHEMA_VERSION = 1

MOST_NAMED = 4
"""Largest number of benchmarks that a remark lists."""


@dataclass(frozen=True, kw_only=True)
class FoundItem:
    """A benchmark item that occurs in training rows, and the training row that contains most of its text."""

    id: str
    row: str
    """`file:line`, or `file: row n`."""
    kind: str
    """`verbatim`, `reordered` (options), `question` (without all of its options), or `near`."""
    share: float
    """Share of the item's distinctive words that the row has."""
    longest: int
    """Length of the longest common run, in words and Chinese characters."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkContamination:
    """The items of one benchmark that are in the training rows, and scores of the other items."""

    inputs: str
    """Fingerprint of the rows, the items and the rules of comparison."""
    num_items: int
    num_short: int
    """Number of items too short to be recognized, which are never found."""
    found: list[FoundItem]
    clean: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Model -> metric -> value, stderr, interval and num_items of the items that were not found."""


@dataclass(frozen=True, kw_only=True)
class ContaminationReport:
    """The contents of contamination.json: the items of each benchmark that are in the training rows."""

    data: str
    """Fingerprint of the training rows."""
    num_rows: int
    benchmarks: dict[str, BenchmarkContamination]
    thresholds: dict[str, float] = field(default_factory=dict)
    """Limits of the comparison, as `workbench.data.contamination.compare` explains them."""


def clean_score(
    score: Score, predictions: Sequence[Prediction], found: Collection[str]
) -> dict[str, Any] | None:
    """Recompute a model's score from the items that are not in the training rows.

    Args:
        score: the score of all items.
        predictions: the answers of the same model to the same benchmark.
        found: ids of the items that are in the training rows.

    Returns:
        A dict with the keys value, stderr, interval and num_items; None if the score is not a mean of the
        items' scores, or if all items are in the training rows.
    """
    others = [
        prediction
        for prediction in predictions
        if prediction.id not in found and score.metric in prediction.scores
    ]
    if score.item_score or not others:
        return None
    subsets: dict[str, list[float]] = {}
    for prediction in others:
        subset = prediction.subset if score.average == "macro" else ""
        subsets.setdefault(subset, []).append(prediction.scores[score.metric])
    clusters = [prediction.cluster for prediction in others]
    error, bounds = error_and_interval(subsets, clusters, score.confidence)
    return {
        "value": mean([mean(scores) for scores in subsets.values()]),
        "stderr": error,
        "interval": list(bounds),
        "num_items": len(others),
    }


def write_contamination(path: Path, report: ContaminationReport) -> None:
    """Write contamination.json with a checksum of itself."""
    values: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **asdict(report)}
    write_json(path, {**values, DIGEST: self_digest(values)})


def read_contamination(path: Path) -> ContaminationReport | None:
    """Read contamination.json; None if there is no such file, because the rows were not searched.

    Raises:
        DataError: The file is damaged, was changed since it was written, or is of another schema version.
    """
    if not path.is_file():
        return None
    try:
        values = read_json(path)
        if values.pop("schema_version") != SCHEMA_VERSION:
            raise DataError(f"{path}: another schema_version (known: {SCHEMA_VERSION})")
        if values.pop(DIGEST) != self_digest({"schema_version": SCHEMA_VERSION, **values}):
            raise DataError(f"{path}: was changed since it was written")
        values["benchmarks"] = {name: _benchmark(facts) for name, facts in values["benchmarks"].items()}
        return ContaminationReport(**values)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the contamination of a run of this project ({error!r})") from error


def _benchmark(values: Mapping[str, Any]) -> BenchmarkContamination:
    return BenchmarkContamination(**{**values, "found": [FoundItem(**item) for item in values["found"]]})


def contamination_of(path: Path) -> tuple[ContaminationReport | None, list[str]]:
    """Read contamination.json; return the report, and at most one warning for readers of the model's scores.

    A missing or damaged file gives None in place of the report. The warning says that the file is damaged, or
    how many items of which benchmarks are in the training rows.
    """
    try:
        report = read_contamination(path)
    except (DataError, OSError):
        return None, [message("{file} is damaged, or was changed since it was written", file=path.name)]
    benchmarks = report.benchmarks if report else {}
    counts = [
        message(
            "{count} of {total} of {benchmark}",
            count=len(facts.found),
            total=facts.num_items,
            benchmark=name,
        )
        for name, facts in benchmarks.items()
        if facts.found
    ]
    if not counts:
        return report, []
    named = listed(counts[:MOST_NAMED])
    if len(counts) > MOST_NAMED:
        named = message("{benchmarks} and others", benchmarks=named)
    return report, [
        message(
            "contaminated: its training rows have items of the benchmarks ({counts}; {file} lists them)",
            counts=named,
            file=path.name,
        )
    ]
