"""Divides the items of a benchmark into two halves at random: one to choose by, one to report on."""

from dataclasses import replace

from workbench.config.benchmark import Average
from workbench.errors import ConfigError
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.pipeline.combining.choice import Items
from workbench.pipeline.comparing.item_order import ordered

FEWEST_CLUSTERS = 20
"""Least number of independent items (clusters) of a benchmark that is divided."""


def halves(benchmark: PreparedBenchmark, seed: int) -> tuple[PreparedBenchmark, PreparedBenchmark]:
    """Return two copies of a benchmark, each with a random half of the items; clusters stay together.

    The halves depend on `seed`.

    Raises:
        ConfigError: The benchmark has too few clusters; an item without a cluster counts as one.
    """
    order = ordered(benchmark, seed)
    if len(order.ends) < FEWEST_CLUSTERS:
        raise ConfigError(
            f"benchmarks.{benchmark.name}: {len(order.ends)} independent items are too few for two halves "
            f"(at least {FEWEST_CLUSTERS}: raise the limit, or search on another benchmark)"
        )
    middle = order.ends[len(order.ends) // 2 - 1]
    return (
        replace(benchmark, examples=order.examples[:middle]),
        replace(benchmark, examples=order.examples[middle:]),
    )


def items_of(benchmark: PreparedBenchmark) -> Items:
    """Return the cluster of each item of a benchmark, and its subset if the score is the mean over subsets.

    An item without a cluster is a cluster of its own.
    """
    examples = benchmark.examples
    is_clustered = any(example.cluster for example in examples)
    return Items(
        clusters=[example.cluster or f"\0{number}" for number, example in enumerate(examples)]
        if is_clustered
        else None,
        subsets=[example.subset for example in examples]
        if benchmark.config.average is Average.macro
        else None,
    )
