"""Checks the options of AdaLoRA, whose ranks shrink during training (arXiv:2303.10512)."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from peft import AdaLoraConfig

from workbench.errors import ConfigError

OPTIONS = (
    "init_r",
    "target_r",
    "tinit",
    "tfinal",
    "deltaT",
    "beta1",
    "beta2",
    "orth_reg_weight",
    "lora_alpha",
    "lora_dropout",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
)
"""Options that AdaLoRA follows; it inherits more from LoRA, and ignores those."""


def schedule(options: Mapping[str, Any]) -> dict[str, int]:
    """Return `total_step`, the field of AdaLoraConfig that isn't an option: the smallest value peft accepts.

    The training replaces it by the number of its steps, once that is known.
    """
    values = _values(options)
    return {"total_step": max(values["tinit"], 0) + max(values["tfinal"], 0) + 1}


def check_schedule(options: Mapping[str, Any], steps: int | None) -> None:
    """Check the options of AdaLoRA.

    Args:
        options: `adapter.options` of the configuration.
        steps: Number of optimizer steps; None: not known yet, and not checked.

    Raises:
        ConfigError: An option has no effect or is out of its range, or the options leave no ranks to remove
            or no steps to remove them in.
    """
    for name in options:
        if name not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise ConfigError(f"adapter.options.{name}: has no effect with adalora (known: {known})")
    values = _values(options)
    if not 1 <= values["target_r"] < values["init_r"]:
        raise ConfigError(
            f"adapter.options.target_r: {values['target_r']} (a mean rank from 1 on, below init_r, which is "
            f"{values['init_r']})"
        )
    for name, least in (("tinit", 0), ("tfinal", 0), ("deltaT", 1)):
        if values[name] < least:
            raise ConfigError(f"adapter.options.{name}: {values[name]} (an integer from {least} on)")
    for name in ("beta1", "beta2"):
        if not 0 < values[name] < 1:
            raise ConfigError(f"adapter.options.{name}: {values[name]} (more than 0, below 1)")
    if steps is not None and values["tinit"] + values["tfinal"] >= steps:
        raise ConfigError(
            f"adapter.options.tinit: {values['tinit']} and tfinal {values['tfinal']} of {steps} steps leave "
            "none to remove ranks in (lower them, or raise train.max_steps)"
        )


def _values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with peft's defaults for those that are not given."""
    defaults = {field.name: field.default for field in fields(AdaLoraConfig)}
    return {name: options.get(name, defaults[name]) for name in OPTIONS}
