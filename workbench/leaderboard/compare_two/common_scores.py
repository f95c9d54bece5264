"""Finds the benchmarks and the metric that the results of two models have in common."""

from collections.abc import Sequence

from workbench.errors import ConfigError
from workbench.evaluation.metric_directions import metric_name
from workbench.evaluation.records import Score
from workbench.leaderboard.compare_two.sides import Side

ALIASES = {
    "arc-c": "arc_challenge",
    "arc-e": "arc_easy",
    "ceval-valid": "ceval",
    "openbookqa_fact": "openbookqa",
    "lambada_openai": "lambada",
    "lukaemon_mmlu": "mmlu",
}
"""Name of a benchmark in another tool -> its name in this project."""
RIGHT = ("acc", "exact_match")
"""Metrics that are 1 for a right answer, else 0; tools name them differently, so they count as one."""


def common_benchmarks(first: Side, second: Side, chosen: Sequence[str]) -> dict[str, str]:
    """Return the common benchmarks, or those in `chosen`: name in the first results -> name in the second.

    Raises:
        ConfigError: No benchmark is common, or one of `chosen` isn't.
    """
    there = {plain_name(name): name for name in reversed(list(second.scores()))}
    common = {name: there[plain_name(name)] for name in first.scores() if plain_name(name) in there}
    known = [", ".join(side.scores()) for side in (first, second)]
    for name in chosen:
        if name not in common:
            raise ConfigError(f"compare.benchmarks: {name!r} is not in both (a has {known[0]}; b {known[1]})")
    if not common:
        raise ConfigError(f"compare: no benchmark in common (a has {known[0]}; b has {known[1]})")
    return {name: other for name, other in common.items() if not chosen or name in chosen}


def plain_name(benchmark: str) -> str:
    """Normalize a benchmark's name across tools: no `PREFIX.`, lower case, `_` for `-`, aliases resolved."""
    name = benchmark.rpartition(".")[2].lower()
    return ALIASES.get(name, name).replace("-", "_")


def common_metric(first: Sequence[Score], second: Sequence[Score]) -> tuple[Score, Score] | None:
    """Return both models' scores in the first metric of `first` that `second` has too.

    Without one, both main scores if each is acc or exact_match, which count as one metric; else None.
    """
    there = {score.metric: score for score in second}
    for score in first:
        if score.metric in there:
            return score, there[score.metric]
    mains = first[0], second[0]
    return mains if all(metric_name(score.metric) in RIGHT for score in mains) else None
