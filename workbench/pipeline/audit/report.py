"""Prints the result of an audit, and writes it into the run folder."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from workbench.errors import DataError
from workbench.files import write_json
from workbench.pipeline.audit.differences import Difference
from workbench.run_dir import RunDir

log = logging.getLogger("workbench")

SCHEMA_VERSION = 1
SHOWN = 5
"""Number of differences that are printed per model."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Result of auditing one model."""

    model: str
    num_total: int
    """Number of recorded answers that the sample was drawn from."""
    num_sampled: int
    """Number of drawn items, which were asked again."""
    num_equal: int
    """Number of drawn items whose answer is equal to the recorded one."""
    largest_nats: float
    """Largest difference of a log-likelihood among items with equal prompts."""
    allowed_nats: float
    """Largest allowed difference of a log-likelihood."""
    most_that_differ: int
    """Upper bound, at `confidence`, of how many of all recorded answers differ."""
    confidence: float
    differences: list[Difference]
    remarks: list[str]
    """Differences from the record other than answers: in weights, benchmarks or scores."""

    @property
    def summary(self) -> str:
        """The result in one line, for the log."""
        share = self.most_that_differ / self.num_total
        return (
            f"{self.model}: {self.num_equal:,} of {self.num_sampled:,} equal; with {self.confidence:.0%} "
            f"confidence at most {self.most_that_differ:,} of {self.num_total:,} ({share:.1%}) differ; "
            f"largest difference {self.largest_nats:.2g} nats (allowed: {self.allowed_nats:g})"
        )


def report(audits: Sequence[Audit], seed: int, run_dir: RunDir) -> None:
    """Log the results of all models, and write audit.json into the run folder unless it is read-only.

    Args:
        audits: The result of each model.
        seed: Seed that drew the items.
        run_dir: The run.

    Raises:
        DataError: An answer differs, or there is a remark.
    """
    for result in audits:
        log.info("audit: %s", result.summary)
        for remark in result.remarks:
            log.warning("audit: %s: %s", result.model, remark)
        for difference in result.differences[:SHOWN]:
            log.warning(
                "audit: %s: %s %s: %s was %s, now %s",
                result.model,
                difference.benchmark,
                difference.id,
                difference.what,
                difference.recorded,
                difference.again,
            )
    log.info("audit: audit.seed=%d draws the same items again", seed)
    if os.access(run_dir.path, os.W_OK):
        values = {
            "schema_version": SCHEMA_VERSION,
            "seed": seed,
            "audits": [asdict(result) for result in audits],
        }
        write_json(run_dir.audit_json, values)
        log.info("audit: report in %s", run_dir.audit_json)
    wrong = [result for result in audits if result.differences or result.remarks]
    if wrong:
        count = sum(len(result.differences) for result in wrong)
        sampled = sum(result.num_sampled for result in audits)
        raise DataError(
            f"{run_dir.results_json}: {count} of {sampled} answers asked again differ from those recorded"
            + (f", and {wrong[0].remarks[0]}" if wrong[0].remarks else "")
            + f" (see {run_dir.audit_json.name})"
        )
