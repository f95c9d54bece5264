"""The audit section: a random sample of a run's recorded answers, asked again."""

from dataclasses import dataclass

from workbench.config.ranges import check_ranges, number


@dataclass(kw_only=True)
class AuditConfig:
    r"""recipe=audit: ask a random sample of recorded items again, and say how many answers can differ.

    Example:
        python -m workbench recipe=audit run_dir=runs/NAME model.path=MODEL \
            audit.items=200
    """

    items: int = number(200, 1, 10**7)
    """Items to ask again, per model, drawn over all its benchmarks; recipe=verify-endpoint draws as many. If
    200 answers are equal, at most 1.5% of all differ; if 2% differ, 98% of audits find one."""
    seed: int | None = number(None, 0, 2**63 - 1)
    """Seed of the sample, also that of recipe=verify-endpoint. null: a new one, which is printed. Whoever
    made the run must not know it beforehand."""
    tolerance: float | None = number(None, 0, 100)
    """Largest allowed difference of a log-likelihood, in nats. null: 0.01 for unquantized float32 models, 0.5
    for others. On one machine only the batches differ, so that all differences are rounding."""
    confidence: float = number(0.95, 0, 1, above=True, below=True)
    """Confidence of the upper bound on the share of answers that differ."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_ranges(self, "audit")
