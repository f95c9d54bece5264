"""Quantizes linear layers to 8 or 4 bits with bitsandbytes, on CPU and CUDA, and dequantizes them."""

import re
from typing import Any, cast

import torch
from bitsandbytes.functional import int8_vectorwise_quant
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.distributed import is_sharded
from workbench.errors import ConfigError, DeviceError
from workbench.models.dtypes import chosen_dtype
from workbench.models.module_names import ends
from workbench.models.ops import int8_linear
from workbench.models.quantized_experts import quantized_experts
from workbench.weights.four_bits import dequantize_4bit, quantize_4bit

UNQUANTIZED = ["lm_head", "score"]
"""Names of heads, which are never quantized, since no later layer compensates their errors."""

MULTIPLIED_DIRECTLY = {name: ["dt_proj"] for name in ("mamba", "falcon_mamba", "jamba")}
"""model_type -> linear layers that stay unquantized, since the model's code multiplies their weights."""


def check_device(quantization: QuantizationConfig, device: torch.device) -> None:
    """Quantize a small matrix, to find out early whether the device supports the method.

    Without quantization nothing is checked.

    Raises:
        DeviceError: The device doesn't support the method.
    """
    if quantization.method is QuantizationMethod.none:
        return
    method = quantization.method.value
    probe = torch.linspace(-1, 1, 64 * 64, device=device, dtype=torch.float16).view(64, 64)
    try:
        if quantization.method is QuantizationMethod.int8:
            int8_vectorwise_quant(probe)
        else:
            dequantize_4bit(*quantize_4bit(probe, quant_type=method))
    except (RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"quantization.method: {method!r} fails on {device.type}: {reason}") from error


def bitsandbytes_config(
    quantization: QuantizationConfig, dtype: torch.dtype, native: bool = False
) -> BitsAndBytesConfig | None:
    """Return the quantization configuration for from_pretrained; None: no quantization.

    Args:
        quantization: Section `quantization` of the configuration.
        dtype: Dtype of the model, and of 4-bit layers' products unless the section names another.
        native: Whether the model is of transformers' own class, whose head may have any name, so that
            transformers has to find it.
    """
    if quantization.method is QuantizationMethod.none:
        return None
    # transformers matches a name at the start or end of a full name, but not in the middle.
    named = [rf"(.*\.)?{re.escape(name)}" for name in quantization.skip_modules]
    skipped = None if native and not named else [*UNQUANTIZED, *named]
    if quantization.method is QuantizationMethod.int8:
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_8bit=True, llm_int8_threshold=quantization.int8_threshold, llm_int8_skip_modules=skipped
        )
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.method.value,
        bnb_4bit_use_double_quant=quantization.double_quant,
        bnb_4bit_compute_dtype=compute_dtype(quantization, dtype),
        bnb_4bit_quant_storage=dtype if is_sharded() else torch.uint8,
        llm_int8_skip_modules=skipped,
    )


def skip_multiplied_directly(config: BitsAndBytesConfig | None, model_type: str) -> None:
    """Add the layers of MULTIPLIED_DIRECTLY to those that a quantization leaves unquantized, in place."""
    if config is not None and (names := MULTIPLIED_DIRECTLY.get(model_type)):
        skipped = config.llm_int8_skip_modules or UNQUANTIZED
        config.llm_int8_skip_modules = [*skipped, *(rf"(.*\.)?{name}" for name in names)]


def compute_dtype(quantization: QuantizationConfig, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which 4-bit layers multiply, for a model of `dtype`."""
    return chosen_dtype(quantization.compute_dtype, dtype)


def stabilize(model: PreTrainedModel, quantization: QuantizationConfig) -> None:
    """Configure a model's quantized layers in place, so that outputs don't depend on mode or earlier calls.

    On a CPU, outputs of int8 layers don't depend on the other texts of a batch either.

    Raises:
        ConfigError: A name of `quantization.skip_modules` matches no module.
    """
    names = [name for name, _ in model.named_modules()]
    for skipped in quantization.skip_modules:
        if not any(ends(name, skipped) for name in names):
            raise ConfigError(f"quantization.skip_modules: {skipped!r} matches no module")
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16 the first product in eval mode repacks the weight in place, after which
            # gradients, dequantize and save are wrong (bitsandbytes 0.50, nn/modules.py, Linear4bit).
            module.support_avx512bf16_for_cpu = False
            # Forward products round weights to this dtype; gradients and dequantize must do the same.
            cast(Any, module.weight).quant_state.dtype = module.compute_dtype
        elif isinstance(module, Linear8bitLt) and module.weight.device.type == "cpu":
            module.register_forward_pre_hook(int8_linear.multiply_in_floats)


def is_quantized(model: nn.Module) -> bool:
    """Return whether any layer is one of bitsandbytes' (Linear8bitLt or Linear4bit).

    Experts in 4 bits, which aren't layers, don't count, nor do layers of other methods.
    """
    return any(isinstance(module, Linear4bit | Linear8bitLt) for module in model.modules())


def batch_dependence(model: nn.Module, device_type: str) -> str:
    """Return how a quantized model's outputs on a device depend on what else a pass computes; empty: not.

    Rounding by the shapes of matrix products, which all models have, is left aside.
    """
    if device_type != "cuda":
        return ""
    modules = list(model.modules())
    if any(isinstance(layer, Linear8bitLt) and layer.state.threshold > 0 for layer in modules):
        return (
            "int8: a column with a large value in any text of a pass is multiplied unquantized for all texts"
        )
    if any(isinstance(layer, Linear4bit) for layer in modules):
        return "4 bits: the number of tokens in a pass decides the kernel, and so the rounding"
    return ""


def parameter_count(model: nn.Module) -> int:
    """Return the number of a model's parameters, counted before quantization; tied ones count once."""
    experts = {held.stored_name: torch.Size(held.state.shape or ()) for held in quantized_experts(model)}
    shapes = (
        experts.get(name) or getattr(getattr(p, "quant_state", None), "shape", p.shape)
        for name, p in model.named_parameters()
    )
    return sum(shape.numel() for shape in shapes)


def quantized_count(model: nn.Module) -> int:
    """Return the number of a model's parameters that are stored in 8 or 4 bits."""
    linear = 0
    for layer in model.modules():
        if isinstance(layer, Linear4bit | Linear8bitLt):
            linear += layer.in_features * layer.out_features
    return linear + sum(held.num_weights for held in quantized_experts(model))


def stored_bytes(model: nn.Module) -> int:
    """Return the size in bytes of a model's tensors in a file, scales included; shared tensors count once."""
    tensors = {
        (tensor.data_ptr(), tensor.shape): tensor
        for tensor in model.state_dict().values()
        if isinstance(tensor, Tensor)
    }
    return sum(tensor.nbytes for tensor in tensors.values())


def dequantize_state_dict(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return name -> dequantized weight of a model, quantized or not, in float32 on the CPU.

    Tied weights appear once, under the first of their names; no tensor shares memory with the model.
    """
    layers = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, Linear4bit | Linear8bitLt)
    }
    experts = {held.stored_name: held for held in quantized_experts(model)}
    weights = {}
    for name, parameter in model.named_parameters():
        if held := experts.get(name):
            weights[held.name] = held.dequantized().to("cpu", torch.float32, copy=True)
            continue
        values = _dequantized(layers[name], model.dtype) if name in layers else parameter.detach()
        if name in layers and issubclass(getattr(layers[name], "source_cls", nn.Linear), Conv1D):
            values = values.t()  # the layer that was quantized has its weight transposed
        weights[name] = values.to("cpu", torch.float32, copy=True)
    return weights


def float_weight(layer: nn.Module, dtype: torch.dtype) -> Tensor:
    """Return the dequantized weight (out, in) of a linear layer, quantized or not, in float32.

    `dtype` is the model's, to which int8 weights are rounded on a CPU. An unquantized float32 weight is
    returned without a copy.
    """
    if isinstance(layer, Linear4bit | Linear8bitLt):
        return _dequantized(layer, dtype).float()
    weight: Tensor = layer.weight.detach().float()  # type: ignore[operator]
    return weight.t() if isinstance(layer, Conv1D) else weight


def _dequantized(layer: nn.Module, dtype: torch.dtype) -> Tensor:
    """Return the weight (out, in) of a quantized layer in a model of `dtype`."""
    weight: Any = layer.weight
    if isinstance(layer, Linear4bit):
        return dequantize_4bit(weight.data, weight.quant_state)
    scales = int8_linear.scales(layer)
    if weight.device.type == "cpu":
        return int8_linear.dequantized(weight.data, scales, dtype)
    return cast(Tensor, weight.data.float() * (scales[:, None] / 127))
