"""Checks the settings of a benchmark before any of its rows is read."""

from workbench.config.benchmark import BenchmarkConfig, Extract, OutputType, Scoring
from workbench.config.ranges import check_ranges
from workbench.errors import ConfigError
from workbench.evaluation.benchmarks import benchmark_templates
from workbench.evaluation.benchmarks.list_checks import check_two_classes
from workbench.evaluation.benchmarks.programs import check_program
from workbench.evaluation.benchmarks.template_variables import TEMPLATES
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.metrics.table import METRICS
from workbench.files import local_path
from workbench.patterns.matching import PatternError, check_pattern

_SCORINGS = {
    OutputType.multiple_choice: tuple(scoring for scoring in Scoring if scoring is not Scoring.rolling),
    OutputType.perplexity: (Scoring.continuation, Scoring.rolling),
}
"""Allowed `scoring` of each output type; all others allow `continuation` only."""


def check_settings(name: str, config: BenchmarkConfig) -> None:
    """Check a benchmark's settings, some of which its protocol (such as lm-eval) may have replaced.

    Raises:
        ConfigError: A setting is out of range, a template or pattern doesn't parse, a needed setting is
            missing, or a setting doesn't fit another, such as a metric and the output type.
    """
    key = f"benchmarks.{name}"
    if config.output_type == OutputType.answer_loss:
        raise ConfigError(
            f"{key}.output_type: 'answer_loss' is reserved for the held-out rows of a training "
            "(perplexity scores your own texts)"
        )
    _check_numbers(key, config)
    if config.generation.extract == Extract.pattern:
        _check_pattern(f"{key}.generation.pattern", config.generation.pattern)
    _check_templates(key, config)
    _check_metrics(key, config)
    has_choices = bool(config.choices or config.choices_from)
    if config.output_type == OutputType.multiple_choice and not has_choices:
        raise ConfigError(f"{key}.choices: empty (multiple_choice needs `choices` or `choices_from`)")
    if config.path is not None and local_path(config.path).is_file() and len(config.subsets) > 1:
        raise ConfigError(
            f"{key}.path: {config.path!r} is a single file for {len(config.subsets)} subsets "
            "(name the folder of all files, or the file's subset, "
            f"as in '{key}.only=[{next(iter(config.subsets))}]')"
        )
    if config.output_type == OutputType.perplexity and (config.description or config.num_fewshot):
        before = "description" if config.description else "num_fewshot"
        raise ConfigError(
            f"{key}.{before}: nothing may stand before a perplexity benchmark's text, of which all tokens "
            "are scored (leave it out; `source` can say where the text is from)"
        )
    needs_target = config.output_type != OutputType.perplexity
    if needs_target and not (config.target or config.target_index):
        raise ConfigError(f"{key}.target: empty (set `target` or `target_index` to the right answer)")
    if config.output_type == OutputType.generation and config.target_index and not has_choices:
        raise ConfigError(
            f"{key}.target_index: {config.target_index!r} gives the index of a choice, but `choices` is "
            "empty (set `target` to the text to generate)"
        )


def _check_templates(key: str, config: BenchmarkConfig) -> None:
    """Check that all templates and expressions parse."""
    for field in TEMPLATES:
        benchmark_templates.check(getattr(config, field), f"{key}.{field}")
    for field in ("choices_from", "target_index", "keep"):
        if getattr(config, field):
            benchmark_templates.check(getattr(config, field), f"{key}.{field}", expression=True)
    for section, keep in (("local", config.local.keep), ("hub", config.hub.keep)):
        if keep:
            benchmark_templates.check(keep, f"{key}.{section}.keep", expression=True)
    for column, expression in {**config.local.columns, **config.hub.columns}.items():
        benchmark_templates.check(expression, f"{key}.columns.{column}", expression=True)
    for choice in config.choices:
        benchmark_templates.check(choice, f"{key}.choices")


def _check_metrics(key: str, config: BenchmarkConfig) -> None:
    """Check that the metrics and the scoring fit the output type."""
    for metric in config.metrics:
        if config.output_type not in metric_named(metric, f"{key}.metrics").output_types:
            fitting = [m for m in sorted(METRICS) if config.output_type in METRICS[m].output_types]
            raise ConfigError(
                f"{key}.metrics: {metric!r} does not fit {config.output_type.name} "
                f"(fitting: {', '.join(fitting)})"
            )
    check_program(key, config)
    if not config.metrics:
        raise ConfigError(f"{key}.metrics: empty (name at least one metric)")
    check_two_classes(key, config)
    scorings = _SCORINGS.get(config.output_type, (Scoring.continuation,))
    if config.scoring not in scorings:
        raise ConfigError(
            f"{key}.scoring: {config.scoring.name!r} does not fit {config.output_type.name} "
            f"(fitting: {', '.join(scoring.name for scoring in scorings)})"
        )


def _check_numbers(key: str, config: BenchmarkConfig) -> None:
    """Check that all numbers of a benchmark's configuration are in range, and that no stop text is empty."""
    check_ranges(config, key)
    if "" in config.generation.stop:
        raise ConfigError(
            f"{key}.generation.stop: an empty text, which would end every answer at once (remove it)"
        )


def _check_pattern(key: str, pattern: str) -> None:
    try:
        check_pattern(pattern)
    except PatternError as error:
        raise ConfigError(f"{key}: {error}") from error
    if not pattern:
        raise ConfigError(
            f"{key}: empty, but `extract` is pattern (set it to the regular expression of an answer)"
        )
