"""Experts of mixture models: their share of the weights, and checks of adapters on them.

For the log, sentences say which share of the weights is quantized, and which an adapter covers.
"""

import copy
import logging
from collections.abc import Iterator
from typing import Any, cast

from peft import PeftConfig
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel

from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import ConfigError
from workbench.models.quantization import is_quantized, parameter_count, quantized_count
from workbench.models.quantized_experts import is_experts, quantized_experts

log = logging.getLogger("workbench")
FOUR_BIT = (QuantizationMethod.nf4, QuantizationMethod.fp4)


def expert_count(model: nn.Module) -> int:
    """Return the number of weights in the experts' 3-D tensors, quantized ones as before quantization.

    Such a tensor has all experts of a layer. Biases and experts stored in another form don't count.
    """
    unquantized = sum(p.numel() for name, p in model.named_parameters() if is_experts(name, p))
    return unquantized + sum(experts.num_weights for experts in quantized_experts(model))


def quantized_share(model: PreTrainedModel) -> str:
    """Return a sentence on the quantized share of a model's weights; empty for a model without experts."""
    experts, total = expert_count(model), parameter_count(model)
    if not experts:
        return ""
    in_bits = sum(held.num_weights for held in quantized_experts(model))
    text = f"experts: {experts / total:.1%} of the weights, "
    if not is_quantized(model):
        return f"{text}unquantized"
    reason = "" if in_bits else " (int8 has no layers for them; quantization=nf4 and fp4 quantize them)"
    held = f"{'' if in_bits == experts else 'un'}quantized{reason}"
    return f"{text}{held}; {quantized_count(model) / total:.1%} of the weights are quantized"


def log_adapted(model: nn.Module) -> None:
    """Log `adapted_share` of a model with an adapter, if it has experts."""
    if shares := adapted_share(model):
        log.info(shares)


def adapted_share(model: nn.Module) -> str:
    """Return a sentence on the share of the base's weights in layers that the adapter of `model` adapts.

    Empty for a model without experts.
    """
    experts = expert_count(model)
    if not experts:
        return ""
    covered = {id(module): count for module, count in _adapted(model)}
    added = ("lora_", ".modules_to_save.")
    adapters = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if any(part in name for part in added)
    )
    total = parameter_count(model) - adapters
    has_experts = any(isinstance(module, ParamWrapper) for module in model.modules())
    rest = "" if has_experts else f"; the experts, {experts / total:.1%}, are not adapted"
    return f"adapter: on layers with {sum(covered.values()) / total:.1%} of the weights{rest}"


def _adapted(model: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """Yield each adapted layer with the number of its weights."""
    for module in model.modules():
        if isinstance(module, ParamWrapper):
            yield module, cast(Any, module).get_param().numel()
        elif isinstance(module, BaseTunerLayer):
            yield module, parameter_count(module.get_base_layer())


def check_experts(model: nn.Module, quantization: QuantizationConfig) -> None:
    """Refuse an adapter on experts if the quantization is one of 4 bits.

    Args:
        model: Model with an adapter; it may be on the meta device.
        quantization: Section `quantization` of the configuration.

    Raises:
        ConfigError: The adapter has layers on experts, and they would be in 4 bits.
    """
    wrapped = [name for name, module in model.named_modules() if isinstance(module, ParamWrapper)]
    if wrapped and quantization.method in FOUR_BIT:
        raise ConfigError(experts_refused(wrapped[0], quantization.method.value))


def settle_targets(model: nn.Module, config: PeftConfig, *, is_chosen: bool) -> None:
    """Remove experts in 4 bits from an adapter's targets, or refuse the adapter if the user named them.

    peft takes `down_proj` and other names of some models for their experts alone.

    Args:
        model: The base, loaded or on the meta device.
        config: peft's configuration, whose `target_modules` are changed in place.
        is_chosen: Whether the user named the targets.

    Raises:
        ConfigError: The user named experts that are in 4 bits.
    """
    held = next(quantized_experts(model), None)
    if held is None:
        return
    converted: Any = copy.deepcopy(config)
    convert_peft_config_for_transformers(converted, model, None)
    if not getattr(converted, "target_parameters", None):
        return
    if is_chosen or getattr(config, "target_parameters", None):
        raise ConfigError(experts_refused(held.name, str(held.state.quant_type)))
    config.target_modules = converted.target_modules  # type: ignore[attr-defined]


def experts_refused(name: str, method: str) -> str:
    """Return the error message about an adapter on the experts `name`, which are quantized by `method`."""
    return (
        f"adapter.target_modules: {name} are experts in {method}, on which an adapter can't be trained "
        "(name the attention's layers, or quantization=none)"
    )
