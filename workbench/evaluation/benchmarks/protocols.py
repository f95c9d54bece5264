"""Applies named protocols, which ask and score a benchmark as a certain paper or harness does."""

from dataclasses import fields, replace

from workbench.config.benchmark import BenchmarkConfig, OutputType, ProtocolConfig, Scoring
from workbench.errors import ConfigError

_BY_CAUSAL_MODEL = (OutputType.multiple_choice, OutputType.generation)
"""Ways of answering between which a protocol can change."""


def resolve(name: str, benchmark: BenchmarkConfig) -> BenchmarkConfig:
    """Return a copy of a benchmark's configuration with the settings of its protocol filled in.

    The user's `num_fewshot` takes precedence over the protocol's; without both it is 0. With protocol
    lm-eval, a perplexity benchmark is scored by `rolling`.

    So does the user's `chat_template`.

    Raises:
        ConfigError: The protocol is unknown, or another kind of model would have to answer.
    """
    protocol = benchmark.protocols.get(benchmark.protocol, ProtocolConfig())
    if benchmark.protocol != "default" and benchmark.protocol not in benchmark.protocols:
        known = ", ".join(["default", *benchmark.protocols])
        raise ConfigError(
            f"benchmarks.{name}.protocol: unknown protocol {benchmark.protocol!r} (known: {known})"
        )
    settings = {field.name: getattr(protocol, field.name) for field in fields(protocol)}
    if (stop := settings.pop("stop")) is not None:
        settings["generation"] = replace(benchmark.generation, stop=stop)
    for key in ("num_fewshot", "chat_template"):
        if getattr(benchmark, key) is not None:
            settings[key] = getattr(benchmark, key)
    if protocol.output_type not in (None, benchmark.output_type):
        _check_same_model(f"benchmarks.{name}.protocols.{benchmark.protocol}", benchmark, protocol)
    if protocol.target is not None:
        settings["target_index"] = ""
    settings = {key: value for key, value in settings.items() if value is not None}
    if benchmark.protocol == "lm-eval" and benchmark.output_type == OutputType.perplexity:
        settings["scoring"] = Scoring.rolling
    return replace(benchmark, **{"num_fewshot": 0, **settings})


def _check_same_model(key: str, benchmark: BenchmarkConfig, protocol: ProtocolConfig) -> None:
    """Check that a causal model answers both by the benchmark's own way of answering and by the protocol's.

    Raises:
        ConfigError: One of the two is neither multiple_choice nor generation.
    """
    for output_type in (benchmark.output_type, protocol.output_type):
        if output_type not in _BY_CAUSAL_MODEL:
            raise ConfigError(
                f"{key}.output_type: {getattr(protocol.output_type, 'name', '')!r} in place of "
                f"{benchmark.output_type.name!r} (a protocol can change multiple_choice to generation and "
                "generation to multiple_choice)"
            )
