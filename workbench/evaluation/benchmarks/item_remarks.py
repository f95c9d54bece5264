"""What is worth saying of a benchmark's items before they are asked."""

from workbench.config.benchmark import BenchmarkConfig
from workbench.evaluation.benchmarks.benchmark_prompts import Renderer


def about_items(config: BenchmarkConfig, count: int, renderer: Renderer, permutations: int) -> list[str]:
    """A line for each odd thing about the items of a benchmark.

    Args:
        config: the benchmark, its protocol resolved.
        count: of its items.
        renderer: has rendered all of them.
        permutations: orders of the options that were asked for.
    """
    whole = config.num_items if config.limit is None and not config.only else None
    found = []
    if whole not in (None, count):
        found.append(f"{count:,} items (the whole benchmark has {whole:,})")
    found += _about_choices(renderer) + _about_shots(config, count, renderer)
    lettered = bool(config.choices) and all(len(choice) == 1 for choice in config.choices)
    if permutations > 1 and lettered and not config.options:
        found.append("evaluate.permutations does nothing here: `options` names no columns to move")
    return found


def _about_choices(renderer: Renderer) -> list[str]:
    """What to say of rows with two equal choices, and of options that aren't moved."""
    found = []
    for where, choice in list(renderer.alike.items())[:1]:
        found.append(
            f"{len(renderer.alike):,} items have two equal choices, of which the first counts, as in the "
            f"harness ({where}: {choice!r})"
        )
    for where, text in list(renderer.not_moved.items())[:1]:
        found.append(
            f"evaluate.permutations: {len(renderer.not_moved):,} items are asked in one order only, since an "
            f"option or the question names options ({where}: {text[:60]!r})"
        )
    return found


def _about_shots(config: BenchmarkConfig, count: int, renderer: Renderer) -> list[str]:
    """What to say of items whose examples would have asked what they ask."""
    found = []
    if renderer.num_same_shots:
        done = "stays, as in the harness" if config.protocol == "lm-eval" else "gives way to the next one"
        found.append(f"{renderer.num_same_shots} questions have an example that asks the same: it {done}")
    if fewer := renderer.fewer_shots:
        found.append(
            f"{len(fewer):,} of {count:,} items have fewer than num_fewshot={config.num_fewshot} examples "
            f"(the fewest: {min(fewer)}), since the other rows of split {config.fewshot_split!r} ask the same"
        )
    return found
