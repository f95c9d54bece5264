"""Puts the sampling and the thinking budget of the evaluate section in place of a benchmark's own."""

from collections.abc import Sequence
from dataclasses import replace

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError

SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")
"""Keys of the evaluate section that precede those of `benchmarks.NAME.generation`."""
_OF_DRAWN = {"top_p": 1.0, "top_k": 0}
"""Key that matters only where tokens are drawn -> value that changes nothing."""


def given_sampling(evaluate: EvaluateConfig) -> dict[str, float]:
    """Return the sampling that the evaluate section sets, by key."""
    values = {key: getattr(evaluate, key) for key in SAMPLING}
    return {key: value for key, value in values.items() if value is not None}


def with_sampling(name: str, config: BenchmarkConfig, evaluate: EvaluateConfig) -> BenchmarkConfig:
    """Return a benchmark with sampling and thinking budget of the evaluate section, where it generates texts.

    With protocol=lm-eval, thoughts have no budget.

    Args:
        name: name of the benchmark, for messages.
        config: its configuration, with the settings of its protocol filled in.
        evaluate: the evaluate section.

    Raises:
        ConfigError: A setting of drawn tokens would have no effect, because the temperature is 0; or the
            benchmark itself has a thinking budget that isn't used.
    """
    own_budget = config.generation.thinking_budget
    generates = config.output_type is OutputType.generation
    if own_budget is not None and not (generates and _can_close_thoughts(config)):
        reason = (
            "protocol=lm-eval reads thoughts as part of the answer" if generates else "it writes no texts"
        )
        raise ConfigError(
            f"benchmarks.{name}.generation.thinking_budget: {own_budget} has no effect, {reason} "
            "(leave it out)"
        )
    if not generates:
        return config
    given = given_sampling(evaluate)
    generation = replace(config.generation, **given)  # type: ignore[arg-type]
    for key, neutral in _OF_DRAWN.items():
        if generation.temperature == 0 and given.get(key, neutral) != neutral:
            raise ConfigError(
                f"evaluate.{key}: {given[key]} has no effect at temperature 0 "
                "(give a temperature, as evaluate.temperature=0.7)"
            )
    if evaluate.samples > 1 and generation.temperature == 0:
        raise ConfigError(
            f"evaluate.samples: {evaluate.samples} answers to an item of benchmarks.{name} would all be the "
            "same at temperature 0 (give a temperature, as evaluate.temperature=0.7)"
        )
    if evaluate.thinking_budget is not None and _can_close_thoughts(config):
        generation = replace(generation, thinking_budget=evaluate.thinking_budget)
    return replace(config, generation=generation)


def _can_close_thoughts(config: BenchmarkConfig) -> bool:
    return config.protocol != "lm-eval"


def check_sampling(
    evaluate: EvaluateConfig, benchmarks: Sequence[BenchmarkConfig], generate: Sequence[bool]
) -> None:
    """Check that sampling and thinking budget of the evaluate section have an effect on some benchmark.

    Args:
        evaluate: the evaluate section.
        benchmarks: all prepared benchmarks.
        generate: whether each benchmark is answered by generated texts.

    Raises:
        ConfigError: A setting is given, there are benchmarks, and it has an effect on none of them.
    """
    given = given_sampling(evaluate)
    if given and generate and not any(generate):
        key, value = next(iter(given.items()))
        raise ConfigError(
            f"evaluate.{key}: {value} has no effect, because no benchmark generates texts (leave it out, or "
            "choose a protocol that does, such as chat)"
        )
    is_of_lm_eval = [config.output_type is OutputType["lm-eval"] for config in benchmarks]
    if (
        evaluate.samples > 1
        and benchmarks
        and all(task or not generates for task, generates in zip(is_of_lm_eval, generate, strict=True))
    ):
        raise ConfigError(
            f"evaluate.samples: {evaluate.samples} has no effect, because no benchmark generates texts but "
            "tasks of lm-eval (leave it out; such a task's file may set `repeats`)"
        )
    budget = evaluate.thinking_budget
    if budget is not None and benchmarks and all(b.generation.thinking_budget is None for b in benchmarks):
        raise ConfigError(
            f"evaluate.thinking_budget: {budget} has no effect, because no benchmark generates texts by "
            "another protocol than lm-eval's (leave it out, or choose a protocol such as chat)"
        )
