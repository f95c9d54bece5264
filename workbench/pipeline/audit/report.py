"""Prints what an audit has found, and writes it into the run folder."""

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
"""Differences that are printed per model."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found about one model."""

    model: str
    num_total: int
    """Recorded answers that the sample was drawn from."""
    num_sampled: int
    num_equal: int
    largest_nats: float
    """Largest difference of a log-likelihood among items with equal prompts."""
    allowed_nats: float
    most_that_differ: int
    """Upper bound of the recorded answers that differ, at `confidence`."""
    confidence: float
    differences: list[Difference]
    remarks: list[str]
    """What is not as it was recorded, apart from the answers: weights, benchmarks, scores."""

    @property
    def summary(self) -> str:
        """One line for the terminal."""
        share = self.most_that_differ / self.num_total
        return (
            f"{self.model}: {self.num_equal:,} of {self.num_sampled:,} equal; with {self.confidence:.0%} "
            f"confidence at most {self.most_that_differ:,} of {self.num_total:,} ({share:.1%}) differ; "
            f"largest difference {self.largest_nats:.2g} nats (allowed: {self.allowed_nats:g})"
        )


def report(audits: Sequence[Audit], seed: int, run_dir: RunDir) -> None:
    """Print what was found, and write it into the run folder if that can be written to.

    Raises:
        DataError: Something differs.
    """
    for found in audits:
        log.info("audit: %s", found.summary)
        for remark in found.remarks:
            log.warning("audit: %s: %s", found.model, remark)
        for difference in found.differences[:SHOWN]:
            log.warning(
                "audit: %s: %s %s: %s was %s, now %s",
                found.model,
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
            "audits": [asdict(found) for found in audits],
        }
        write_json(run_dir.audit_json, values)
        log.info("audit: report in %s", run_dir.audit_json)
    wrong = [found for found in audits if found.differences or found.remarks]
    if wrong:
        count = sum(len(found.differences) for found in wrong)
        sampled = sum(found.num_sampled for found in audits)
        raise DataError(
            f"{run_dir.results_json}: {count} of {sampled} answers asked again differ from those recorded"
            + (f", and {wrong[0].remarks[0]}" if wrong[0].remarks else "")
            + f" (see {run_dir.audit_json.name})"
        )
