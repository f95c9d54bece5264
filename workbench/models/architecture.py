"""Decides which class runs a checkpoint, Open-Llama or transformers' own; tells how it is quantized."""

from pathlib import Path

from transformers import CONFIG_MAPPING

from workbench.config.model import Architecture, ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import OtherArchitectureError
from workbench.models.checkpoints import chatglm
from workbench.models.checkpoints.checkpoint import describe
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.ready_quantized import folder_format, unpacked_format
from workbench.models.checkpoints.state_dict import read_json_object


def is_native(model: ModelConfig) -> bool:
    """Return whether transformers' own class runs the model, and not Open-Llama.

    Raises:
        WorkbenchError: With `model.architecture=auto`, the checkpoint is missing or damaged.
    """
    return bool(native_reason(model))


def native_reason(model: ModelConfig) -> str:
    """Return why transformers' own class runs the model, for the log; empty if Open-Llama does.

    With `model.architecture=auto` Open-Llama runs LLaMA and its relatives, and transformers' class other
    model types that it has. A relative with a field that Open-Llama doesn't compute is refused: transformers'
    class may ignore such a field silently.

    Raises:
        WorkbenchError: With `model.architecture=auto`, the checkpoint is missing or damaged.
    """
    if model.architecture is Architecture.native:
        return "model.architecture=native"
    if model.architecture is not Architecture.auto or model.init:
        return ""
    path = locate(model.path, model.revision)
    try:
        describe(path)
    except OtherArchitectureError as error:
        return error.reason if _is_known(path) else ""
    return ""


def _is_known(path: Path) -> bool:
    """Return whether transformers has a configuration class for the folder at `path`."""
    file = path / "config.json"
    model_type = read_json_object(file).get("model_type") if file.is_file() else None
    return model_type == chatglm.MODEL_TYPE or model_type in CONFIG_MAPPING


def quantized_already(model: ModelConfig) -> str:
    """Return the method by which the weight files at `model.path` are quantized, as `gptq`; else empty.

    Raises:
        CheckpointError: There is no model, or its weights are quantized in a way that can't be unpacked.
    """
    if model.init:
        return ""
    kind = folder_format(locate(model.path, model.revision))
    return "" if kind is None else kind.method


def unpacked_method(model: ModelConfig, quantization: QuantizationConfig) -> str:
    """Return the method of quantized weights that `load_model` unpacks, as `gptq`; empty if it unpacks none.

    Raises:
        CheckpointError: The weights are quantized in a way that can't be unpacked.
    """
    if model.init or not is_native(model):
        return quantized_already(model)
    kind = unpacked_format(locate(model.path, model.revision), quantization.method is QuantizationMethod.none)
    return "" if kind is None else kind.method
