"""The predict section: one's own prompts or texts in, answers or labels out."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.ranges import check_ranges, number


class PredictModel(Enum):
    """Which model of the run answers."""

    base = "base"
    adapter = "adapter"
    merged = "merged"
    trained = "trained"


@dataclass(kw_only=True)
class PredictConfig:
    """The `predict` section."""

    input: str | None = None
    """Texts or prompts: .txt with one a line, or rows as training takes them, answers not needed."""
    output: str | None = None
    """JSONL file of answers; None: beside the run's predictions, under the input's name."""
    limit: int | None = number(None, 1, 10**12)
    """The first so many rows of `input` only."""
    columns: dict[str, str] = field(default_factory=dict)
    """Role to column of `input`, as in {text: comment}; empty: as in the run's training rows."""
    model: PredictModel | None = None
    """base, adapter, merged, or (with `adapter=none`) trained; null: adapter, or trained."""
    max_new_tokens: int = number(128, 1, 10**6)
    """Longest answer, in tokens."""

    def __post_init__(self) -> None:
        """Refuse values that can answer nothing.

        Raises:
            ConfigError: a number out of its range.
        """
        check_ranges(self, "predict")
