"""Reads facts about the model from an lm-evaluation-harness results file.

Source: lm_eval 0.4.13, `evaluator.simple_evaluate` (the section `config` of the results).
"""

from collections.abc import Mapping
from typing import Any

QUANTIZATIONS = {"load_in_8bit": "int8", "load_in_4bit": "4-bit"}
"""Argument of the model -> quantization that it turns on."""


def model_facts(config: Mapping[str, Any]) -> dict[str, str | int]:
    """Return the known ones of num_parameters, dtype, quantization, revision, adapter and base.

    `adapter` and `base` are paths or names on the Hub; `base` is the adapter's base, missing without one.

    Args:
        config: Section `config` of the results file.
    """
    arguments = _arguments(config.get("model_args"))
    adapter, dtype = arguments.get("peft"), config.get("model_dtype")
    quantizations = [
        name for key, name in QUANTIZATIONS.items() if arguments.get(key) in (True, "True", "true")
    ]
    facts = {
        "num_parameters": config.get("model_num_parameters"),
        "dtype": dtype.removeprefix("torch.") if isinstance(dtype, str) else None,
        "quantization": quantizations[0] if quantizations else None,
        "revision": config.get("model_revision"),
        "adapter": adapter,
        "base": arguments.get("pretrained") if adapter else None,
    }
    return {key: value for key, value in facts.items() if isinstance(value, str | int) and value != ""}


def _arguments(values: Any) -> dict[str, Any]:
    """Return the model's arguments as name -> value; they are an object, or a text `a=1,b=2`."""
    if isinstance(values, str):
        pairs = [argument.partition("=") for argument in values.split(",")]
        return {key.strip(): value.strip() for key, _, value in pairs}
    return values if isinstance(values, dict) else {}
