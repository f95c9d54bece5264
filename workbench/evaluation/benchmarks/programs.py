"""Renders the program that is run to score a generated answer."""

from collections.abc import Mapping
from typing import Any

from workbench.config.benchmark import BenchmarkConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks import benchmark_templates
from workbench.evaluation.benchmarks.benchmark_files import Row

ANSWER = "answer"
"""Variable of the template `program` that stands for the generated answer."""
_MARK = "\0answer\0"
"""Rendered in place of the answer, which isn't known yet; no program has this text."""


def check_program(key: str, config: BenchmarkConfig) -> None:
    """Check that a benchmark whose metric runs programs has a template of them with the answer.

    Raises:
        ConfigError: The metric `pass@1` lacks a program, or the program lacks the answer.
        RenderingError: The program's template does not parse.
    """
    if "pass@1" in config.metrics and not config.program:
        raise ConfigError(f"{key}.program: empty, but 'pass@1' runs it (set it to the answer with its tests)")
    if config.program and ANSWER not in benchmark_templates.names(config.program):
        raise ConfigError(f"{key}.program: lacks {{{{ answer }}}}, so that every answer would score the same")


def program_around_answer(template: str, values: Mapping[str, Any], row: Row) -> tuple[str, str] | None:
    """Return a row's program before and after the answer; None without a template.

    Raises:
        DataError: The template can't be rendered, or has the answer more than once.
    """
    if not template:
        return None
    texts = benchmark_templates.render(template, {**values, ANSWER: _MARK}, row).split(_MARK)
    if len(texts) != 2:
        raise DataError(f"{row.where}: `program` has the answer {len(texts) - 1} times (once)")
    return texts[0], texts[1]
