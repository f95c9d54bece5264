"""Reads a run's record and merge report, and writes remarks on numbers that can't be verified."""

from typing import Any

from workbench.errors import DataError
from workbench.evaluation.records import Score
from workbench.evaluation.result_checksums import CheckedResults
from workbench.files import file_fingerprint, read_json
from workbench.leaderboard.checks import are_texts, sound_facts
from workbench.run_dir import RunDir
from workbench.run_record import read_record
from workbench.shown import listed, message

MOST_NAMED = 4
"""Largest number of scores that one remark lists."""

UNVERIFIED = "not verified"
"""First words of a remark on scores without checksums."""


def record_of(files: RunDir) -> tuple[dict[str, Any], list[str]]:
    """Return the contents of run.json and an empty list; if it is damaged, {} and a list with one remark.

    Both are empty if there is no file.
    """
    if not files.run_json.exists():
        return {}, []
    try:
        return read_record(files.run_json), []
    except (DataError, OSError):
        name = files.run_json.name
        return {}, [message("{file} is damaged, or was changed since it was written", file=name)]


def unverified(scores: list[Score], checked: CheckedResults) -> list[str]:
    """Return a list with one remark, which names the scores without checksums; empty if there are none."""
    keys = {(score.model, score.benchmark) for score in scores}
    unverified = sorted(keys & checked.unverified)
    if not unverified:
        return []
    if len(unverified) == len(keys):
        return [
            message(
                "not verified: its scores have no checksums "
                "(made by an earlier version, or copied without run.json)"
            )
        ]
    named = listed(
        [
            message("{model} on {benchmark}", model=model, benchmark=benchmark)
            for model, benchmark in unverified[:MOST_NAMED]
        ]
    )
    if len(unverified) > MOST_NAMED:
        named = message("{scores} and {count} more", scores=named, count=len(unverified) - MOST_NAMED)
    return [
        message(
            "not verified: the scores of {scores} have no checksums "
            "(made by an earlier version, or copied without run.json)",
            scores=named,
        )
    ]


def merge_report_of(files: RunDir, record: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the merge report and an empty text, or {} and the reason why the merge is not proven.

    Both are empty for a run without a merge.
    """
    path = files.merge_report
    entry = record.get("steps", {}).get("merge")
    digest = entry.get("files", {}).get(path.name) if isinstance(entry, dict) else None
    if not path.is_file():
        return {}, "" if entry is None else message(
            "{file} is missing, so the merge is not proven", file=path.name
        )
    if digest is not None and file_fingerprint(path) != digest:
        return {}, message(
            "{file} was changed since it was written, so the merge is not proven", file=path.name
        )
    try:
        report = read_json(path)
    except (ValueError, OSError):
        return {}, message("{file} can't be read, so the merge is not proven", file=path.name)
    facts, accepted = sound_facts(report), report.get("accepted") if isinstance(report, dict) else None
    return (facts | {"accepted": accepted} if are_texts(accepted) else facts), ""
