"""Whether results.json is as it was written: its parts against the checksums that run.json holds of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.files import fingerprint, read_json

Key = tuple[str, str]
"""Model and benchmark."""


ADAPTER_DIGEST = "adapter"
"""Key of the train step's entry: the checksum by which scores and merges know the adapter."""


@dataclass(frozen=True)
class CheckedResults:
    """What the checksums say of a results.json."""

    changed: frozenset[Key]
    """Scores that are not as they were written."""
    unverified: frozenset[Key]
    """Scores without a checksum: an earlier version's, or of a file that was copied without its run.json."""


def score_digests(path: Path) -> dict[Key, str]:
    """The checksum of what a results.json says of each model on each benchmark.

    Raises:
        DataError: it can't be read.
    """
    return _score_digests(_values(path), path)


def facts_digest(values: Mapping[str, Any]) -> str:
    """The checksum of what results.json says of the run and its models, the run's name left out."""
    return fingerprint({key: value for key, value in values.items() if key not in ("run", "scores")})


def check_results(path: Path, record: Mapping[str, Any]) -> CheckedResults:
    """Compare a results.json with the checksums of the run's record.

    Args:
        path: of results.json.
        record: what run.json holds; empty where there is none.

    Raises:
        DataError: it can't be read, or what it says of the run and its models is not as it was written.
    """
    values = _values(path)
    digests = _score_digests(values, path)
    steps = record.get("steps")
    entries = steps if isinstance(steps, dict) else {}
    changed, unverified = set(), set()
    for (model, benchmark), digest in digests.items():
        entry = entries.get(f"evaluate/{model}/{benchmark}")
        expected = entry.get("scores") if isinstance(entry, dict) else None
        if expected is None:
            unverified.add((model, benchmark))
        elif expected != digest:
            changed.add((model, benchmark))
    if "results" in record and record["results"] != facts_digest(values):
        raise DataError(f"{path}: what it says of the run and its models is not as it was written")
    return CheckedResults(frozenset(changed), frozenset(unverified))


def _values(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except ValueError as error:
        raise DataError(f"{path}: not the results of a run of this project ({error})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: not the results of a run of this project (not an object)")
    return values


def _score_digests(values: Mapping[str, Any], path: Path) -> dict[Key, str]:
    scores = values.get("scores")
    by_key: dict[Key, list[Any]] = {}
    for score in scores if isinstance(scores, list) else [None]:
        if not isinstance(score, dict):
            raise DataError(f"{path}: not the results of a run of this project (scores are {scores!r:.60})")
        by_key.setdefault((str(score.get("model")), str(score.get("benchmark"))), []).append(score)
    return {key: fingerprint(list_of_scores) for key, list_of_scores in by_key.items()}
