"""Converts the generation options of a task of lm-evaluation-harness to this engine's configuration."""

from collections.abc import Mapping
from typing import Any

from workbench.config.benchmark import GenerationConfig
from workbench.errors import ConfigError

_COUNTS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the option for the largest number of generated tokens; the first one present counts. Source: the
harness's `normalize_gen_kwargs`."""
_DEFAULT_COUNT = 256
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "top_p": (None, 1, 1.0),
    "top_k": (None, 0, -1),
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1, 1.0),
}
"""Option that isn't supported -> values that are accepted, because they have no effect."""
_KNOWN = {"until", "do_sample", "temperature", *_COUNTS}


def limits(options: Mapping[str, Any], where: str) -> GenerationConfig:
    """Convert a task's `generation_kwargs` to a GenerationConfig; without sampling its temperature is 0.

    Options that name no number of tokens give 256, the harness's default. Messages start with `where`.

    Raises:
        ConfigError: An unsupported option would change the answers.
    """
    temperature = float(options.get("temperature") or 0.0)
    do_sample = bool(options.get("do_sample", temperature > 0)) and temperature > 0
    for name, value in options.items():
        ignored_values = _WITHOUT_EFFECT.get(name, ())
        is_for_sampling = not do_sample and name in ("top_p", "top_k")
        if name not in _KNOWN and value not in ignored_values and not is_for_sampling:
            raise ConfigError(
                f"{where}: generation option {name}={value!r} is not supported "
                f"(supported: {', '.join(sorted(_KNOWN))})"
            )
    until = options.get("until") or []
    count = next((options[name] for name in _COUNTS if options.get(name) is not None), _DEFAULT_COUNT)
    return GenerationConfig(
        max_new_tokens=int(count),
        stop=[text for text in ([until] if isinstance(until, str) else until) if text],
        temperature=temperature if do_sample else 0.0,
    )
