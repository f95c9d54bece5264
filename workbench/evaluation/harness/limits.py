"""What a task of lm-evaluation-harness says about generation, as this engine's limits."""

from collections.abc import Mapping
from typing import Any

from workbench.config.benchmark import GenerationConfig
from workbench.errors import ConfigError

_COUNTS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the same limit, the first one present counts. Source: the harness's `normalize_gen_kwargs`."""
_DEFAULT_COUNT = 256
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "top_p": (None, 1, 1.0),
    "top_k": (None, 0, -1),
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1, 1.0),
}
"""Options that a task can't set here, with the values that mean nothing."""
_KNOWN = {"until", "do_sample", "temperature", *_COUNTS}


def limits(options: Mapping[str, Any], where: str) -> GenerationConfig:
    """The limits of generated answers; without sampling the temperature is 0 whatever the task says.

    Raises:
        ConfigError: an option that this engine doesn't have would change the answers.
    """
    temperature = float(options.get("temperature") or 0.0)
    sampled = bool(options.get("do_sample", temperature > 0)) and temperature > 0
    for name, value in options.items():
        harmless = _WITHOUT_EFFECT.get(name, ())
        greedy = not sampled and name in ("top_p", "top_k")
        if name not in _KNOWN and value not in harmless and not greedy:
            raise ConfigError(
                f"{where}: generation option {name}={value!r} is not supported (temperature is)"
            )
    until = options.get("until") or []
    count = next((options[name] for name in _COUNTS if options.get(name) is not None), _DEFAULT_COUNT)
    return GenerationConfig(
        max_new_tokens=int(count),
        stop=[text for text in ([until] if isinstance(until, str) else until) if text],
        temperature=temperature if sampled else 0.0,
    )
