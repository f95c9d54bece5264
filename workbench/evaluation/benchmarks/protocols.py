"""Named protocols: the same benchmark asked and scored as a certain paper or harness does."""

from dataclasses import fields, replace

from workbench.config.benchmark import BenchmarkConfig, OutputType, ProtocolConfig, Scoring
from workbench.errors import ConfigError


def resolve(name: str, benchmark: BenchmarkConfig) -> BenchmarkConfig:
    """The benchmark with its protocol's facts in place; the user's own `num_fewshot` is kept.

    Raises:
        ConfigError: the protocol is unknown.
    """
    protocol = benchmark.protocols.get(benchmark.protocol, ProtocolConfig())
    if benchmark.protocol != "default" and benchmark.protocol not in benchmark.protocols:
        known = ", ".join(["default", *benchmark.protocols])
        raise ConfigError(
            f"benchmarks.{name}.protocol: unknown protocol {benchmark.protocol!r} (known: {known})"
        )
    facts = {fact.name: getattr(protocol, fact.name) for fact in fields(protocol)}
    if benchmark.num_fewshot is not None:
        facts["num_fewshot"] = benchmark.num_fewshot
    facts = {key: value for key, value in facts.items() if value is not None}
    if benchmark.protocol == "lm-eval" and benchmark.output_type == OutputType.perplexity:
        facts["scoring"] = Scoring.rolling
    return replace(benchmark, **{"num_fewshot": 0, **facts})
