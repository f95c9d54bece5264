"""Compares the two results that a configuration names, and shows the comparison."""

import logging
from pathlib import Path

from workbench.config.compare import CompareConfig
from workbench.errors import ConfigError
from workbench.leaderboard.compare_two import report
from workbench.leaderboard.compare_two.paired import PairedComparison, compare_sides
from workbench.leaderboard.compare_two.sides import KINDS, open_side

log = logging.getLogger("workbench")


def show_comparison(config: CompareConfig) -> None:
    """Print the comparison of `compare.a` and `compare.b` as a table.

    If the folder `compare.output` is set, also write compare.json and compare.csv there.

    Raises:
        ConfigError: As by `compare_results`.
        DataError: As by `compare_results`; or a file to write can't be replaced.
    """
    comparison = compare_results(config)
    print(report.text(comparison), flush=True)
    if config.output:
        for path in report.write(comparison, Path(config.output)):
            log.info("compare: %s", path)


def compare_results(config: CompareConfig) -> PairedComparison:
    """Return the comparison of the two models whose results are at `compare.a` and `compare.b`.

    Raises:
        ConfigError: One of the two is missing or isn't the results of a single model, they have no benchmark
            in common, or one of `compare.benchmarks` isn't in both.
        DataError: A score isn't a finite number. A benchmark that can't be compared, for example because an
            item has no score, is in `left_out` with the reason.
    """
    for key, path in (("a", config.a), ("b", config.b)):
        if not path:
            raise ConfigError(f"compare.{key}: missing ({key}=PATH: {KINDS})")
    return compare_sides(
        open_side(config.a or "", "compare.a"), open_side(config.b or "", "compare.b"), config
    )
