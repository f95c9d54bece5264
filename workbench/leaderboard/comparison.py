"""Two models' results against each other, item by item."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.config.names import ADAPTER, BASE
from workbench.errors import ConfigError
from workbench.evaluation.records import Prediction
from workbench.leaderboard import formatting
from workbench.leaderboard.collect import Run
from workbench.leaderboard.compare import compare_models
from workbench.leaderboard.results import Results
from workbench.leaderboard.shown_table import Shown, Table
from workbench.leaderboard.view_model import Row
from workbench.run_dir import RunDir


@dataclass(frozen=True, kw_only=True)
class RunInMemory(Run):
    """Two models as a run has them: the first as its base, the second as its adapter."""

    answers: Mapping[str, Results] = field(default_factory=dict)

    def predictions(self, model: str, benchmark: str) -> list[Prediction] | None:
        """One model's answers on one benchmark."""
        return self.answers[model].predictions.get(benchmark)


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """The second model less the first on each benchmark that both were scored on."""

    first: str
    second: str
    rows: list[Row]
    """One a benchmark. `scores` holds the first model as `base` and the second as `adapter`; `difference`
    holds the interval, the exact test and Holm's correction, or `problem` says why there is none."""
    left_out: list[str]
    """Benchmarks that only one of the two was scored on."""

    def table(self) -> Table:
        """One line a benchmark."""
        header = ["benchmark", "metric", self.first, self.second, "difference", "p (Holm)", "verdict"]
        rows = [self._cells(row) for row in self.rows]
        notes = [f"{row.benchmark}: {row.problem}" for row in self.rows if row.problem]
        notes += [f"{name}: only one of the two was scored on it" for name in self.left_out]
        return Table(title=f"{self.second} against {self.first}", header=header, rows=rows, notes=notes)

    def _cells(self, row: Row) -> list[str]:
        values = [formatting.number(row.scores[name].value, row.is_share) for name in (BASE, ADAPTER)]
        cells = [row.benchmark, row.metric, *values]
        if (found := row.difference) is None:
            return [*cells, "", "", ""]
        bounds = formatting.interval(found.interval, row.is_share, signed=True)
        change = formatting.change(found.value, row.is_share)
        change = f"{change} ({bounds})" if bounds else change
        return [*cells, change, formatting.p_value(found.adjusted_p_value), found.verdict]

    def to_pandas(self) -> Any:
        """A DataFrame with one row a benchmark; what can't be compared has no numbers."""
        import pandas

        facts = ("stderr", "p_value", "adjusted_p_value", "test", "wins", "losses", "num_items", "verdict")
        lines = []
        for row in self.rows:
            found = row.difference
            low, high = found.interval if found and found.interval else (None, None)
            lines.append(
                {
                    "benchmark": row.benchmark,
                    "metric": row.metric,
                    "first": row.scores[BASE].value,
                    "second": row.scores[ADAPTER].value,
                    "difference": found.value if found else None,
                    "low": low,
                    "high": high,
                    **{name: getattr(found, name, None) for name in facts},
                    "problem": row.problem,
                }
            )
        return pandas.DataFrame(lines)


def compare(first: Results, second: Results) -> Comparison:
    """Compare two models on the items that both answered from the same prompt.

    Each benchmark is compared by its main metric: the difference with its interval, an exact McNemar test
    (a sign-flip test where items score other than 0 and 1), and Holm's correction over the benchmarks.

    Args:
        first: Results of the reference, such as the base.
        second: Results of the other model.

    Raises:
        ConfigError: They have no benchmark in common.
    """
    answers = {BASE: first, ADAPTER: second}
    scored = [dict.fromkeys(score.benchmark for score in results.scores) for results in answers.values()]
    common = [name for name in scored[0] if name in scored[1]]
    if not common:
        known = " and ".join(", ".join(names) or "none" for names in scored)
        raise ConfigError(f"compare: no benchmark in common ({known})")
    run = RunInMemory(
        label="",
        files=RunDir(Path()),
        recipe="",
        task="",
        base_model="",
        models={},
        scores=[
            replace(score, model=model)
            for model, results in answers.items()
            for score in results.scores
            if score.benchmark in common
        ],
        answers=answers,
    )
    is_ambiguous = first.model == second.model
    return Comparison(
        first=f"{first.model} (1)" if is_ambiguous else first.model,
        second=f"{second.model} (2)" if is_ambiguous else second.model,
        rows=compare_models(run, 0).rows,
        left_out=[name for name in {**scored[0], **scored[1]} if name not in common],
    )
