"""Quantizes the experts of mixture models to 4 bits, one parameter at a time while the model is loaded.

transformers stores the experts of a layer in 3-D parameters, which its own quantizer leaves unquantized.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from bitsandbytes.nn.parametrize import replace_parameter_4bit_prequantized
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module
from transformers.utils.quantization_config import QuantizationMethod

from workbench.weights.four_bits import QuantState, quantize_4bit

log = logging.getLogger("workbench")

METHOD = "bitsandbytes-with-experts"
"""Name under which transformers knows the quantizer of this file, until a model is loaded."""
COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Names of the number of experts in a layer in config.json."""


class QuantizedExperts(NamedTuple):
    """Parameter with the weights of all experts of a layer, quantized to 4 bits."""

    name: str
    """Name of the parameter, as it is without quantization."""
    stored_name: str
    """Name of the packed tensor among the model's parameters."""
    module: nn.Module
    """Module that has the parameter."""
    parameter: str
    """Name of the parameter in the module."""
    state: QuantState
    """Shape and scales by which bitsandbytes dequantizes the packed tensor."""

    @property
    def num_weights(self) -> int:
        """Return the number of weights before quantization."""
        return math.prod(self.state.shape or ())

    def dequantized(self) -> Tensor:
        """Return the weights (experts, rows, columns), dequantized as for the products of the model."""
        weights: Tensor = getattr(self.module, self.parameter)
        return weights.detach()


def is_experts(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter of this name has the unquantized weights of all experts of a layer."""
    return parameter.dim() == 3 and "expert" in name


def has_experts(config: PreTrainedConfig) -> bool:
    """Return whether a model's configuration is that of a mixture of experts."""
    text = config.get_text_config()
    return any(getattr(text, name, None) for name in COUNTS)


def quantized_experts(model: nn.Module) -> Iterator[QuantizedExperts]:
    """Yield the parameters of a model with experts in 4 bits; none for a model without such experts."""
    for prefix, module in model.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        for parameter, steps in module.parametrizations.items():
            state = getattr(steps[0], "quant_state", None)
            if isinstance(state, QuantState):
                stored = f"{prefix}.parametrizations.{parameter}.original"
                yield QuantizedExperts(f"{prefix}.{parameter}", stored, module, parameter, state)


def with_experts(config: BitsAndBytesConfig | None) -> BitsAndBytesConfig | None:
    """Return a copy of 4-bit settings with which from_pretrained quantizes experts, too.

    None, and settings of 8 bits, are returned unchanged.
    """
    if config is None or not config.load_in_4bit:
        return config
    return ExpertsConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=config.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=config.bnb_4bit_compute_dtype,
        bnb_4bit_quant_storage=config.bnb_4bit_quant_storage,
        llm_int8_skip_modules=config.llm_int8_skip_modules,
    )


@register_quantization_config(METHOD)
class ExpertsConfig(BitsAndBytesConfig):
    """Settings of bitsandbytes in 4 bits, for a model with experts."""

    def __init__(self, **settings: Any) -> None:
        """Take the settings of BitsAndBytesConfig."""
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self.quant_method: Any = METHOD


@register_quantizer(METHOD)
class ExpertsQuantizer(Bnb4BitHfQuantizer):
    """Quantizer of transformers for bitsandbytes' 4 bits that quantizes experts, too."""

    def __init__(self, quantization_config: BitsAndBytesConfig, **settings: Any) -> None:
        """Take the arguments of transformers' quantizer."""
        super().__init__(quantization_config, **settings)
        self.states: dict[str, QuantState] = {}

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **settings: Any) -> bool:
        """Return whether a parameter is quantized: the weight of a linear layer, or experts."""
        return self.holds_experts(model, param_name) or bool(
            super().param_needs_quantization(model, param_name, **settings)
        )

    def holds_experts(self, model: PreTrainedModel, name: str) -> bool:
        """Return whether a parameter has experts that are, or by the settings will be, in 4 bits."""
        if name in self.states:
            return True
        module, _, parameter = name.rpartition(".")
        value = getattr(model.get_submodule(module), parameter, None)
        is_one = isinstance(value, Tensor) and is_experts(name, value)
        return is_one and should_convert_module(module, self.modules_to_not_convert)

    def is_serializable(self) -> bool:
        """Return False, so that `save_pretrained` refuses the model, and say in the log what to do."""
        kind = self.quantization_config.bnb_4bit_quant_type
        log.warning("experts in %s can't be saved (save the adapter, or merge it)", kind)
        return False

    def get_quantize_ops(self) -> Bnb4bitQuantize:
        """Return the operation that quantizes a parameter once its values are read."""
        return _Quantize(self)  # type: ignore[no-untyped-call]

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **settings: Any) -> PreTrainedModel:
        """Let the experts be dequantized when they are used, and the model pass for one of bitsandbytes."""
        for name, state in self.states.items():
            path, _, parameter = name.rpartition(".")
            module = model.get_submodule(path)
            packed: Tensor = getattr(module, parameter)
            replace_parameter_4bit_prequantized(module, parameter, state.as_dict(packed=True), packed.device)
        self.quantization_config.quant_method = QuantizationMethod.BITS_AND_BYTES
        loaded: PreTrainedModel = super()._process_model_after_weight_loading(model, **settings)
        return loaded


class _Quantize(Bnb4bitQuantize):
    """Quantizes one parameter, of experts or of a linear layer."""

    def convert(  # type: ignore[override]
        self, input_dict: dict[str, Any], *, model: PreTrainedModel, **settings: Any
    ) -> dict[str, Tensor]:
        """Return name -> quantized parameter for the values that were read."""
        quantizer: ExpertsQuantizer = self.hf_quantizer
        config = quantizer.quantization_config
        converted: dict[str, Tensor] = {}
        for name, value in input_dict.items():
            if not quantizer.holds_experts(model, name):
                converted |= super().convert({name: value}, model=model, **settings)
                continue
            weights = value[0] if isinstance(value, list) else value
            packed, quantizer.states[name] = quantize_4bit(
                weights.contiguous(),
                compress_statistics=config.bnb_4bit_use_double_quant,
                quant_type=config.bnb_4bit_quant_type,
                quant_storage=torch.uint8,
            )
            converted[name] = nn.Parameter(packed, requires_grad=False)
        return converted
