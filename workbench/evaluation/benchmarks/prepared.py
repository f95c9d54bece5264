"""A benchmark that is ready to be asked."""

from dataclasses import dataclass
from typing import Any

from workbench.config.benchmark import BenchmarkConfig
from workbench.evaluation.records import Example


@dataclass(frozen=True)
class PreparedBenchmark:
    """A benchmark ready to be asked: its protocol resolved, its items rendered."""

    name: str
    config: BenchmarkConfig
    """With the protocol's facts in place."""
    examples: list[Example]
    warnings: list[str]
    tasks: Any = None
    """HarnessTasks of lm-evaluation-harness that ask and judge instead of what `config` says, or None."""
    rule: str = ""
    """Fingerprint of how those tasks judge."""
