"""Defines the result of evaluating one model: its scores, and the prediction for every item."""

from dataclasses import dataclass
from typing import Any

from workbench.errors import ConfigError
from workbench.evaluation.records import Prediction, Score
from workbench.leaderboard import formatting
from workbench.leaderboard.formatting import is_shown_as_share
from workbench.leaderboard.shown_table import Shown, Table


@dataclass(frozen=True, kw_only=True, repr=False)
class Results(Shown):
    """Scores and predictions of one model, as `evaluate` returns them."""

    model: str
    scores: list[Score]
    predictions: dict[str, list[Prediction]]
    """Benchmark -> prediction and score of each item."""
    measured: dict[str, dict[str, float]]
    """Benchmark -> seconds, items_per_second, num_asked, computed_tokens, ... of its evaluation."""

    def __getitem__(self, benchmark: str) -> Score:
        """Return a benchmark's score in its main metric.

        Raises:
            ConfigError: The benchmark was not scored.
        """
        for score in self.scores:
            if score.benchmark == benchmark:
                return score
        known = ", ".join(dict.fromkeys(score.benchmark for score in self.scores))
        raise ConfigError(f"results: no scores on {benchmark!r} (known: {known})")

    def table(self) -> Table:
        """Return the scores as a table, one line per score; shares are in percent."""
        rows = []
        for score in self.scores:
            share = is_shown_as_share(score)
            value, bounds = formatting.number(score.value, share), formatting.interval(score.interval, share)
            facts = [score.benchmark, score.metric, value, bounds, f"{score.num_items:,}"]
            rows.append([*facts, formatting.asked(score)])
        header = ["benchmark", "metric", self.model, "interval", "items", "protocol"]
        return Table(title=f"Scores of {self.model}", header=header, rows=rows)

    def to_pandas(self) -> Any:
        """Return a DataFrame with one row per score; shares are between 0 and 1.

        The columns are model, benchmark, language, metric, value, stderr, low and high (the interval's ends),
        num_items, num_fewshot and protocol.

        Raises:
            ImportError: pandas isn't installed.
        """
        import pandas

        return pandas.DataFrame(
            {
                "model": score.model,
                "benchmark": score.benchmark,
                "language": score.language,
                "metric": score.metric,
                "value": score.value,
                "stderr": score.stderr,
                "low": score.interval[0] if score.interval else None,
                "high": score.interval[1] if score.interval else None,
                "num_items": score.num_items,
                "num_fewshot": score.num_fewshot,
                "protocol": score.protocol,
            }
            for score in self.scores
        )
