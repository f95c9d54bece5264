"""Applies named protocols, which ask and score a benchmark as a certain paper or harness does."""

from dataclasses import fields, replace

from workbench.config.benchmark import BenchmarkConfig, OutputType, ProtocolConfig, Scoring
from workbench.errors import ConfigError


def resolve(name: str, benchmark: BenchmarkConfig) -> BenchmarkConfig:
    """Return a copy of a benchmark's configuration with the settings of its protocol filled in.

    The user's `num_fewshot` takes precedence over the protocol's; without both it is 0. With protocol
    lm-eval, a perplexity benchmark is scored by `rolling`.

    Raises:
        ConfigError: The protocol is unknown.
    """
    protocol = benchmark.protocols.get(benchmark.protocol, ProtocolConfig())
    if benchmark.protocol != "default" and benchmark.protocol not in benchmark.protocols:
        known = ", ".join(["default", *benchmark.protocols])
        raise ConfigError(
            f"benchmarks.{name}.protocol: unknown protocol {benchmark.protocol!r} (known: {known})"
        )
    settings = {field.name: getattr(protocol, field.name) for field in fields(protocol)}
    if benchmark.num_fewshot is not None:
        settings["num_fewshot"] = benchmark.num_fewshot
    settings = {key: value for key, value in settings.items() if value is not None}
    if benchmark.protocol == "lm-eval" and benchmark.output_type == OutputType.perplexity:
        settings["scoring"] = Scoring.rolling
    return replace(benchmark, **{"num_fewshot": 0, **settings})
