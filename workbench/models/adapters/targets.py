"""Which parts of a model an adapter trains, by their names."""

import re
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.config.adapter import ALL_LINEAR, AdapterConfig, AdapterInit
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import ConfigError
from workbench.models.adapters.adapter_config import HEAD
from workbench.models.adapters.config_bounds import check_rank_patterns
from workbench.models.module_names import ends, is_within
from workbench.models.open_llama.configuration_open_llama import EXTENDED_FROM

ADAPTED = (nn.Linear, nn.Embedding, nn.Conv2d, Conv1D)
"""What peft has adapters for; quantized layers are linear ones too."""


def check_base(model: ModelConfig) -> None:
    """Raise ConfigError for a base that an adapter can't be used on again."""
    if model.init:
        raise ConfigError(
            "adapter.method: model.init makes random weights that are kept nowhere, so an adapter on them "
            "could never be used again (adapter=none)"
        )


def linear_layers(model: nn.Module) -> list[str]:
    """Last parts of the names of all linear layers, quantized ones included, sorted."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    return sorted({name.rpartition(".")[2] for name in names})


def heads(model: PreTrainedModel) -> list[str]:
    """Last part of the name of the layer that makes the logits, if it has one."""
    output = cast(Any, model).get_output_embeddings()
    return [name.rpartition(".")[2] for name, module in model.named_modules() if module is output] + [HEAD]


def shared_layers(model: PreTrainedModel) -> set[str]:
    """Last parts of the names of input and output embedding, where both are one matrix."""
    ends = [model.get_input_embeddings(), cast(Any, model).get_output_embeddings()]
    if None in ends or ends[0].weight is not ends[1].weight:
        return set()
    return {name.rpartition(".")[2] for name, module in model.named_modules() if module in ends}


def trainable_tokens(
    model: PreTrainedModel, adapter: AdapterConfig, token_ids: Sequence[int]
) -> dict[str, list[int]] | None:
    """Embeddings, by the last part of their names -> the tokens whose rows are trained; None: of none.

    Raises:
        ConfigError: the first such token lies behind the vocabulary.
    """
    ends = [model.get_input_embeddings(), cast(Any, model).get_output_embeddings()]
    size = len(cast(Tensor, ends[0].weight))
    recorded: int = getattr(model.config, EXTENDED_FROM, size)
    first = recorded if adapter.trainable_tokens_from is None else adapter.trainable_tokens_from
    if first > size:
        raise ConfigError(f"adapter.trainable_tokens_from: {first!r}, but the embedding has {size} rows")
    trained = sorted({*token_ids, *range(first, size)})
    if not trained:
        return None
    # Of two embeddings that are one, peft is told the first and ties the second to it.
    wanted = ends[:1] if shared_layers(model) else ends
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if module in wanted}
    return {name: trained for name in sorted(names)}


def check_targets(model: PreTrainedModel, adapter: AdapterConfig) -> None:
    """Raise ConfigError where a name matches no layer, or a choice doesn't go with this base."""
    names = [name for name, _ in model.named_modules()]
    layers = ", ".join(linear_layers(model))
    targets = [name for name in adapter.target_modules if name != ALL_LINEAR]
    for key, wanted in (("target_modules", targets), ("modules_to_save", adapter.modules_to_save)):
        for target in wanted:
            matched = [module for name, module in model.named_modules() if ends(name, target)]
            if not matched:
                raise ConfigError(f"adapter.{key}: {target!r} matches no layer (linear layers: {layers})")
            if key == "target_modules" and not all(isinstance(module, ADAPTED) for module in matched):
                raise ConfigError(
                    f"adapter.{key}: {target!r} has no matrix to put an adapter on (linear layers: {layers})"
                )
            if any(isinstance(module, nn.ModuleList | nn.ModuleDict) for module in matched):
                raise ConfigError(f"adapter.{key}: {target!r} is a list of layers (name those)")
    if both := sorted({*targets} & {*adapter.modules_to_save}):
        raise ConfigError(f"adapter.modules_to_save: {both[0]!r} is in target_modules too (choose one)")
    adapted = targets or [name for name in linear_layers(model) if name not in heads(model)]
    inside = [name for name in names if is_within(name, adapter.modules_to_save)]
    if not any(ends(name, target) for name in names if name not in inside for target in adapted):
        raise ConfigError(
            f"adapter.modules_to_save: {adapter.modules_to_save!r} holds every layer of target_modules and "
            "leaves none for the adapter (save less, or adapter=none trains the whole model)"
        )
    check_rank_patterns(adapter.rank_pattern, names)
    for pattern in adapter.rank_pattern:
        if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
            raise ConfigError(f"adapter.rank_pattern: {pattern!r} matches no layer (linear layers: {layers})")
    if adapter.init is AdapterInit.orthogonal and getattr(model, "is_quantized", False):
        raise ConfigError("adapter.init: peft's 'orthogonal' needs quantization=none (gaussian doesn't)")
    if shared := sorted(shared_layers(model) & {*targets, *adapter.modules_to_save}):
        raise ConfigError(
            f"adapter: {shared[0]!r} shares its weight with another layer and can't change alone "
            "(leave it out of target_modules and modules_to_save)"
        )


def check_saved(model: PreTrainedModel, adapter: AdapterConfig, quantization: QuantizationConfig) -> None:
    """Raise ConfigError where a layer to be trained whole would lie in 4 or 8 bits."""
    if quantization.method is QuantizationMethod.none:
        return
    kept = [*heads(model), *quantization.skip_modules]
    for target in adapter.modules_to_save:
        for name, module in model.named_modules():
            linear = isinstance(module, nn.Linear | Conv1D) and is_within(name, [target])
            if linear and not is_within(name, kept):
                raise ConfigError(
                    f"adapter.modules_to_save: {target!r} has weights in {quantization.method.value}, which "
                    f"can't be trained (quantization.skip_modules=[{target}] keeps them whole)"
                )
