"""Finds the tensors of an adapter that change each weight, from peft's layers on a model without weights."""

from collections.abc import Collection
from pathlib import Path

from peft import PeftModel, PeftType
from peft.tuners.lora import layer as lora
from peft.tuners.lora.variants import DoraLinearVariant
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import nn
from transformers import PreTrainedModel

from workbench.errors import CheckpointError
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.base_copies import base_copies
from workbench.models.checkpoints.hub import locate_adapter
from workbench.weights.file_tensors import FileTensor, file_tensors
from workbench.weights.merge_plan import LoraTensors, ReplacedTensor, UpdateTensors

ADAPTER = "default"
"""peft's name of the adapter in the model."""
PREFIX = "base_model.model."
"""Beginning of the names in the adapter file, before the name of the base's layer."""


class NotStreamable(Exception):
    """Adapter or base that must be merged with the whole model in memory; the message says why."""


def adapter_file(adapter_path: str | Path) -> Path:
    """Return the path of the safetensors file of an adapter, a folder or Hub id, which is downloaded once.

    It isn't checked that the file is there.

    Raises:
        CheckpointError: There is nothing at `adapter_path`, or the download failed.
    """
    return locate_adapter(adapter_path) / adapter_config.WEIGHTS_FILE


def adapter_updates(outline: PreTrainedModel, adapter_path: str | Path) -> dict[str, UpdateTensors]:
    """Return, for each weight that an adapter changes, name in the base -> the adapter's tensors that do so.

    Args:
        outline: The base on the meta device; it gets the adapter's layers.
        adapter_path: Folder or hub id of the adapter, whose values are read and checked.

    Raises:
        CheckpointError: The adapter doesn't fit, has NaN or infinite values, or all its matrices B are zero.
        NotStreamable: The adapter has layers that only peft can merge.
    """
    if adapter_config.changes_base(adapter_path):
        raise NotStreamable("start values that change the base, or trained biases or repeated layers")
    kind = adapter_config.read_config(adapter_path).peft_type
    if kind is not PeftType.LORA:
        raise NotStreamable(f"an adapter of the type {PeftType(kind).value}")
    stored = file_tensors([adapter_file(adapter_path)])
    copies = base_copies(stored, adapter_config.read_config(adapter_path))
    stored = {name: tensor for name, tensor in stored.items() if name not in copies}
    model = attach.insert(outline, adapter_path, stored)
    _check_values(adapter_path, stored)
    updates: dict[str, UpdateTensors] = {}
    for name, module in attach.base_model(model).named_modules():
        updates |= _updates_of(name, module, model, stored.keys())
    return updates


def _check_values(adapter_path: str | Path, stored: dict[str, FileTensor]) -> None:
    """Check that the adapter's values are finite and change something; one tensor at a time is in memory.

    Raises:
        CheckpointError: A tensor isn't of finite floating point numbers, or all LoRA matrices B are zero.
    """
    moves = not any(_is_b(name) for name in stored)  # a merge of norms or biases that were trained whole
    for name, tensor in sorted(stored.items()):
        values = tensor[...]
        if not values.is_floating_point():
            raise CheckpointError(f"{adapter_path}: {name} has the dtype {values.dtype} (not a float)")
        adapter_config.check_finite(adapter_path, name, values)
        moves |= _is_b(name) and bool(values.any())
    if not moves:
        raise CheckpointError(
            f"{adapter_path}: all lora_B matrices are zero, so the adapter does nothing (is it untrained?)"
        )


def _is_b(name: str) -> bool:
    return "lora_B" in name or "lora_embedding_B" in name


def _updates_of(
    name: str, module: nn.Module, model: PeftModel, stored: Collection[str]
) -> dict[str, UpdateTensors]:
    """Return weight name -> update for one module of a model with an adapter; {} if nothing changes."""
    if isinstance(module, ModulesToSaveWrapper):
        trained = module.modules_to_save[ADAPTER]
        return {
            f"{name}.{parameter_name}": ReplacedTensor(values=f"{PREFIX}{name}.{parameter_name}")
            for parameter_name, _ in trained.named_parameters()
        }
    if isinstance(module, TrainableTokensWrapper):
        return _trained_rows(name, module)
    if isinstance(module, TrainableTokensLayer) or not isinstance(module, BaseTunerLayer):
        return {}
    if isinstance(module, lora.Linear | lora.Embedding):
        return {f"{name}.weight": _lora(name, module, stored)}
    raise NotStreamable(f"{name} is a {type(module).__name__}")


def _trained_rows(name: str, module: TrainableTokensWrapper) -> dict[str, UpdateTensors]:
    """Return weight name -> its trained rows; {} if they are the rows of the tied embedding."""
    layer = module.token_adapter
    if layer.tied_adapter is not None:
        return {}
    values = f"{PREFIX}{name}.token_adapter.trainable_tokens_delta"
    numbers = tuple(int(number) for number in layer.token_indices[ADAPTER])
    return {f"{name}.weight": ReplacedTensor(values=values, numbers=numbers)}


def _lora(name: str, layer: lora.LoraLayer, stored: Collection[str]) -> LoraTensors:
    """Return the names of a LoRA or DoRA layer's tensors in the adapter file, with its scale.

    Raises:
        NotStreamable: Another variant, or a bias of B.
    """
    variant = layer.lora_variant.get(ADAPTER)
    is_dora = variant is not None and isinstance(variant, DoraLinearVariant)
    if layer.lora_bias[ADAPTER] or (variant is not None and not is_dora):
        raise NotStreamable(f"{name} has a bias or a variant of LoRA")
    is_embedding = isinstance(layer, lora.Embedding)
    is_transposed = is_embedding or bool(getattr(layer, "fan_in_fan_out", False))
    if is_dora and is_transposed:
        raise NotStreamable(f"{name} is a transposed DoRA")
    prefix, end = ("lora_embedding_", "") if is_embedding else ("lora_", ".weight")
    magnitudes = [f"{PREFIX}{name}.lora_magnitude_vector{suffix}" for suffix in ("", ".weight")]
    return LoraTensors(
        down=f"{PREFIX}{name}.{prefix}A{end}",
        up=f"{PREFIX}{name}.{prefix}B{end}",
        scale=float(layer.scaling[ADAPTER]),
        magnitude=next(full for full in magnitudes if full in stored) if is_dora else None,
        is_transposed=is_transposed,
    )
