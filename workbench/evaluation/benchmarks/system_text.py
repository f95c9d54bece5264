"""Puts the user's system text in front of a benchmark's prompts."""

from dataclasses import replace

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.evaluation.records import Example

_WITH_SYSTEM = (OutputType.multiple_choice, OutputType.generation)
"""Output types whose prompts begin with the system text: of other types the item's text itself is scored."""


def with_system(example: Example, system: str, config: BenchmarkConfig) -> Example:
    """Return an example whose description, in all orders of its options, begins with a system text.

    Where neither text has white space at the seam, `fewshot_delimiter` separates them. An empty text changes
    nothing. Source: lm-evaluation-harness 0.4.13, api/utils.py, maybe_delimit.
    """
    if not system or config.output_type not in _WITH_SYSTEM:
        return example
    description = example.description
    is_separated = not description or system[-1].isspace() or description[0].isspace()
    delimiter = "" if is_separated else example.fewshot_delimiter
    rotations = tuple(with_system(rotation, system, config) for rotation in example.rotations)
    return replace(example, description=system + delimiter + description, rotations=rotations)
