"""Puts the sampling of the evaluate section in place of a benchmark's own."""

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


def with_sampling(config: BenchmarkConfig, evaluate: EvaluateConfig) -> BenchmarkConfig:
    """Return a benchmark with the sampling of the evaluate section, where it generates texts.

    Raises:
        ConfigError: A setting of drawn tokens would have no effect, because the temperature is 0.
    """
    if config.output_type is not OutputType.generation:
        return config
    given = given_sampling(evaluate)
    generation = replace(config.generation, **given)  # type: ignore[arg-type]
    for key, neutral in _OF_DRAWN.items():
        if generation.temperature == 0 and given.get(key, neutral) != neutral:
            raise ConfigError(
                f"evaluate.{key}: {given[key]} has no effect at temperature 0 "
                "(give a temperature, as evaluate.temperature=0.7)"
            )
    return replace(config, generation=generation)


def check_sampling(evaluate: EvaluateConfig, generate: Sequence[bool]) -> None:
    """Check that the sampling of the evaluate section has an effect on some benchmark.

    Args:
        evaluate: the evaluate section.
        generate: whether each benchmark is answered by generated texts.

    Raises:
        ConfigError: A setting is given, there are benchmarks, and none of them generates texts.
    """
    given = given_sampling(evaluate)
    if given and generate and not any(generate):
        key, value = next(iter(given.items()))
        raise ConfigError(
            f"evaluate.{key}: {value} has no effect, because no benchmark generates texts (leave it out, or "
            "choose a protocol that does, such as chat)"
        )
