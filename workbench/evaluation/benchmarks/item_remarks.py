"""Lists the warnings about a benchmark's items that are logged before the evaluation."""

from collections.abc import Sequence

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.evaluation.benchmarks.benchmark_prompts import Renderer
from workbench.evaluation.benchmarks.benchmark_templates import list_in
from workbench.evaluation.records import Example


def about_items(
    config: BenchmarkConfig, examples: Sequence[Example], renderer: Renderer, permutations: int
) -> list[str]:
    """Return the warnings about the items of a benchmark, one line each.

    Args:
        config: configuration of the benchmark, with the settings of its protocol filled in.
        examples: its items.
        renderer: renderer that has rendered all items.
        permutations: requested number of option orders.
    """
    count = len(examples)
    expected = config.num_items if config.limit is None and not config.only else None
    warnings = []
    if expected not in (None, count):
        warnings.append(f"{count:,} items (the whole benchmark has {expected:,})")
    warnings += _choice_warnings(renderer) + _fewshot_warnings(config, count, renderer)
    warnings += _target_warnings(config, examples)
    lettered = bool(config.choices) and all(len(choice) == 1 for choice in config.choices)
    if permutations > 1 and config.options and config.output_type is OutputType.generation:
        warnings.append("evaluate.permutations has no effect here: answers are generated in one order only")
    elif permutations > 1 and lettered and not config.options:
        warnings.append("evaluate.permutations has no effect here: `options` names no columns to move")
    return warnings


def _target_warnings(config: BenchmarkConfig, examples: Sequence[Example]) -> list[str]:
    """Return a warning if most items have a list written as one text as their right answer, else none."""
    single = [example.written_targets[0] for example in examples if len(example.written_targets) == 1]
    lists = [text for text in single if list_in(text)]
    if 2 * len(lists) <= len(examples):
        return []
    return [
        f"{len(lists):,} right answers are lists written as one text ({lists[0][:60]!r}), which an answer "
        f"must equal as a whole; where their entries are right answers: `| parse_list` in {config.target!r}"
    ]


def _choice_warnings(renderer: Renderer) -> list[str]:
    """Return up to two warnings: about items with equal choices, and about options that can't be moved."""
    warnings = []
    for where, choice in list(renderer.alike.items())[:1]:
        warnings.append(
            f"{len(renderer.alike):,} items have two equal choices, the first of which counts, as in "
            f"lm-evaluation-harness ({where}: {choice!r})"
        )
    for where, text in list(renderer.not_moved.items())[:1]:
        warnings.append(
            f"evaluate.permutations: {len(renderer.not_moved):,} items are asked in one order only, because "
            f"an option or the question refers to options by letter or position ({where}: {text[:60]!r})"
        )
    return warnings


def _fewshot_warnings(config: BenchmarkConfig, count: int, renderer: Renderer) -> list[str]:
    """Return up to two warnings: few-shot examples that ask an item's own question, and too few examples."""
    warnings = []
    if renderer.num_same_shots:
        done = (
            "is kept, as in lm-evaluation-harness"
            if config.protocol == "lm-eval"
            else "is replaced by the next row"
        )
        warnings.append(
            f"{renderer.num_same_shots} questions have a few-shot example that asks the same question, "
            f"which {done}"
        )
    if fewer := renderer.fewer_shots:
        warnings.append(
            f"{len(fewer):,} of {count:,} items have fewer than num_fewshot={config.num_fewshot} examples "
            f"(the fewest: {min(fewer)}), because all other rows of split {config.fewshot_split!r} ask "
            "the same question"
        )
    return warnings
