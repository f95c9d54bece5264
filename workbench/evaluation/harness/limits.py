"""Converts the generation options of a task of lm-evaluation-harness to this engine's configuration."""

from collections.abc import Mapping
from typing import Any

from workbench.config.benchmark import GenerationConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.config.ranges import check_ranges
from workbench.errors import ConfigError
from workbench.evaluation.benchmarks.sampling_settings import given_sampling

_COUNTS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the option for the largest number of generated tokens; the first one present counts. Source: the
harness's `normalize_gen_kwargs`."""
_DEFAULT_COUNT = 256
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {"num_beams": (None, 1)}
"""Option that isn't supported -> values that are accepted, because they have no effect."""
_KNOWN = {"until", "do_sample", "temperature", "top_p", "top_k", "repetition_penalty", *_COUNTS}


def sampling_options(evaluate: EvaluateConfig) -> dict[str, Any]:
    """Return the sampling of the evaluate section as generation options, which precede a task's own."""
    given: dict[str, Any] = given_sampling(evaluate)
    return given | ({"do_sample": given["temperature"] > 0} if "temperature" in given else {})


def limits(options: Mapping[str, Any], where: str) -> GenerationConfig:
    """Convert a task's `generation_kwargs` to a GenerationConfig; without sampling its temperature is 0.

    Options that name no number of tokens give 256, the harness's default. Messages start with `where`.

    Raises:
        ConfigError: An unsupported option would change the answers, or a number is out of range.
    """
    temperature = float(options.get("temperature") or 0.0)
    do_sample = bool(options.get("do_sample", temperature > 0)) and temperature > 0
    for name, value in options.items():
        if name not in _KNOWN and value not in _WITHOUT_EFFECT.get(name, ()):
            raise ConfigError(
                f"{where}: generation option {name}={value!r} is not supported "
                f"(supported: {', '.join(sorted(_KNOWN))})"
            )
    until = options.get("until") or []
    count = next((options[name] for name in _COUNTS if options.get(name) is not None), _DEFAULT_COUNT)
    top_p, top_k, penalty = (options.get(name) for name in ("top_p", "top_k", "repetition_penalty"))
    converted = GenerationConfig(
        max_new_tokens=int(count),
        stop=[text for text in ([until] if isinstance(until, str) else until) if text],
        temperature=temperature if do_sample else 0.0,
        top_p=float(top_p) if do_sample and top_p is not None else 1.0,
        top_k=max(0, int(top_k)) if do_sample and top_k is not None else 0,
        repetition_penalty=float(penalty) if penalty is not None else 1.0,
    )
    check_ranges(converted, f"{where}: generation option")
    return converted
