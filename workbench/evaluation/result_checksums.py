"""Compares the parts of results.json with their checksums in run.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.files import fingerprint, read_json

Key = tuple[str, str]
"""(model, benchmark)."""


ADAPTER_DIGEST = "adapter"
"""Key of the adapter's checksum in the train step's entry; scores and merges identify the adapter by it."""

RECIPE_DIGEST = "recipe"
"""Key, in the train step's entry, of the checksum of all settings and data that determine the weights, except
the seed."""


@dataclass(frozen=True)
class CheckedResults:
    """Result of comparing a results.json with its checksums."""

    changed: frozenset[Key]
    """Scores that were changed after they were written."""
    unverified: frozenset[Key]
    """Scores without a checksum: of an earlier version, or of a file copied without its run.json."""


def score_digests(path: Path) -> dict[Key, str]:
    """Return (model, benchmark) -> checksum of the scores in a results.json.

    Raises:
        DataError: The file is not a results.json.
        OSError: The file is missing or can't be read.
    """
    return _score_digests(_values(path), path)


def facts_digest(values: Mapping[str, Any]) -> str:
    """Return the checksum of the facts about run and models in results.json, without the run's name."""
    return fingerprint({key: value for key, value in values.items() if key not in ("run", "scores")})


def check_results(path: Path, record: Mapping[str, Any]) -> CheckedResults:
    """Compare a results.json with the checksums of the run's record.

    Args:
        path: path of results.json.
        record: content of run.json; empty without one.

    Raises:
        DataError: The file is not a results.json, or its facts about run and models were changed.
        OSError: The file is missing or can't be read.
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
        raise DataError(f"{path}: the facts about run and models were changed after the run wrote them")
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
