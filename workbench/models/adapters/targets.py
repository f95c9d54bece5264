"""Selects the layers that an adapter trains, by their names, and checks the names that a user gives."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.config.adapter import ALL_LINEAR, AdapterConfig, AdapterInit, AdapterMethod
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import ConfigError
from workbench.models.adapters.adapter_config import HEAD
from workbench.models.adapters.config_bounds import check_rank_patterns
from workbench.models.experts import check_experts
from workbench.models.module_names import ends, is_within
from workbench.models.open_llama.configuration_open_llama import EXTENDED_FROM

NOT_ADAPTABLE = {
    "mamba": ("out_proj", "conv1d", "dt_proj"),
    "falcon_mamba": ("out_proj", "conv1d", "dt_proj"),
    "jamba": ("dt_proj",),
    **{name: ("out_proj", "conv1d") for name in ("mamba2", "falcon_h1", "nemotron_h")},
}
"""Model type -> layers whose weights the model reads without calling the layers: peft refuses a LoRA on the
first two, and one on the third would change nothing."""
EXPERTS = ("gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")
"""Names of layers that peft takes for experts, wherever transformers stores experts as one tensor."""
ADAPTABLE = (nn.Linear, nn.Embedding, nn.Conv2d, Conv1D)
"""Layer types that peft has adapters for; quantized layers are subclasses of nn.Linear."""


def check_base(model: ModelConfig) -> None:
    """Raise ConfigError for a base with random weights, which no later run could load with the adapter."""
    if model.init:
        raise ConfigError(
            "adapter.method: model.init draws random weights that are saved nowhere, so an adapter on them "
            "can't be used again (adapter=none)"
        )


def linear_layers(model: nn.Module) -> list[str]:
    """Return the last parts of the names of all linear layers, quantized ones included, sorted, each once."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    return sorted({name.rpartition(".")[2] for name in names})


def text_layers(model: PreTrainedModel) -> list[str]:
    """Return the last parts of the names of the linear layers that `all-linear` stands for, sorted.

    Heads are left out, as are layers that texts don't reach or that peft can't adapt.
    """
    excluded = {*heads(model), *NOT_ADAPTABLE.get(model.config.model_type, ())}
    if fused_experts(model):
        excluded |= set(EXPERTS)
    others = other_towers(model)
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and not any(name.startswith(f"{tower}.") for tower in others)
    ]
    return sorted({name.rpartition(".")[2] for name in names} - excluded)


def fused_experts(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a mixture's experts, quantized or not, if one weight has all experts of a layer.

    Empty for a model without experts, or with a layer for each expert.
    """
    parameters = ((name, p) for name, p in model.named_parameters() if ".experts." in name)
    return [p for name, p in parameters if p.dim() == 3 or ".parametrizations." in name]


def other_towers(model: PreTrainedModel) -> list[str]:
    """Return the full names of a composite model's modules that texts don't reach, as `model.vision_tower`.

    Only modules with linear layers, and not the modules inside of them. Empty for a model of texts alone.
    """
    text_config = model.config.get_text_config()
    text = [m for m in model.modules() if isinstance(m, PreTrainedModel) and m.config is text_config]
    if text_config is model.config or not text:
        return []
    needed = {*text[0].modules(), cast(Any, model).get_output_embeddings()}
    towers: list[str] = []
    for name, module in model.named_modules():
        is_beside = not any(part in needed for part in module.modules())
        has_linear = any(isinstance(part, nn.Linear | Conv1D) for part in module.modules())
        if is_beside and has_linear and not any(name.startswith(f"{tower}.") for tower in towers):
            towers.append(name)
    return towers


def norm_layers(model: nn.Module) -> list[str]:
    """Return the last parts of the names of all modules whose weight is a vector (norms), sorted."""
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), Tensor) and cast(Tensor, module.weight).dim() == 1
    ]
    return sorted({name.rpartition(".")[2] for name in names})


def heads(model: PreTrainedModel) -> list[str]:
    """Return the last part of the name of the language model head, if the model has one, and `score`.

    `score`, the classification head's name, is always there.
    """
    output = cast(Any, model).get_output_embeddings()
    return [name.rpartition(".")[2] for name, module in model.named_modules() if module is output] + [HEAD]


def shared_layers(model: PreTrainedModel) -> set[str]:
    """Return the last parts of the names of embedding and head if they share a weight, else an empty set."""
    embeddings = [model.get_input_embeddings(), cast(Any, model).get_output_embeddings()]
    if None in embeddings or embeddings[0].weight is not embeddings[1].weight:
        return set()
    return {name.rpartition(".")[2] for name, module in model.named_modules() if module in embeddings}


def trainable_tokens(
    model: PreTrainedModel, adapter: AdapterConfig, token_ids: Sequence[int]
) -> dict[str, list[int]] | None:
    """Return last part of the name of embedding and head -> sorted token ids whose rows are trained.

    Those are `token_ids` and the tokens from `adapter.trainable_tokens_from` on, which defaults to the first
    token that was added to the model. None if there are no such tokens. Of a tied head and embedding only the
    embedding is named.

    Raises:
        ConfigError: `adapter.trainable_tokens_from` is larger than the vocabulary, or `train.fsdp` has split
            the embedding.
    """
    embeddings = [model.get_input_embeddings(), cast(Any, model).get_output_embeddings()]
    size = len(cast(Tensor, embeddings[0].weight))
    recorded: int = getattr(model.config, EXTENDED_FROM, size)
    first = recorded if adapter.trainable_tokens_from is None else adapter.trainable_tokens_from
    if first > size:
        raise ConfigError(
            f"adapter.trainable_tokens_from: {first!r} is too large (the embedding has {size} rows)"
        )
    trained = sorted({*token_ids, *range(first, size)})
    if not trained:
        return None
    if isinstance(embeddings[0].weight, DTensor):
        raise ConfigError(
            f"train.fsdp: embeddings of a split model aren't trained (adapter.trainable_tokens_from={size}, "
            "or train.fsdp=false)"
        )
    # If the embeddings share their weight, peft expects the first and ties the second to it.
    unshared = embeddings[:1] if shared_layers(model) else embeddings
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if module in unshared}
    return {name: trained for name in sorted(names)}


def check_targets(model: PreTrainedModel, adapter: AdapterConfig) -> None:
    """Check the names of layers in the section `adapter`, and its initialization, against this base.

    Raises:
        ConfigError: A name matches no layer or one that can't be adapted, names contradict each other, or the
            initialization is impossible with quantized layers.
    """
    layers = ", ".join(linear_layers(model))
    targets = [name for name in adapter.target_modules if name != ALL_LINEAR]
    for key, names in (("target_modules", targets), ("modules_to_save", adapter.modules_to_save)):
        for name in names:
            _check_name(model, name, key, layers, adapter.method)
    if fused_experts(model) and (names := sorted({*targets} & {*EXPERTS})):
        raise ConfigError(
            f"adapter.target_modules: {names[0]!r} can't be adapted, since peft takes it for the experts of "
            f"this model (names: {', '.join(text_layers(model))})"
        )
    if duplicates := sorted({*targets} & {*adapter.modules_to_save}):
        raise ConfigError(f"adapter.modules_to_save: {duplicates[0]!r} is in target_modules too (choose one)")
    _check_some_adapted(model, adapter, targets)
    check_rank_patterns(adapter.rank_pattern, [name for name, _ in model.named_modules()])
    check_matches(model, adapter.rank_pattern, "adapter.rank_pattern", are_patterns=True)
    if adapter.init is AdapterInit.orthogonal and getattr(model, "is_quantized", False):
        raise ConfigError(
            "adapter.init: peft's 'orthogonal' can't initialize quantized layers (gaussian can)"
        )
    if shared := sorted(shared_layers(model) & {*targets, *adapter.modules_to_save}):
        raise ConfigError(
            f"adapter: {shared[0]!r} shares its weight with another layer and can't be trained alone "
            "(remove it from target_modules and modules_to_save)"
        )


def check_matches(model: nn.Module, texts: Iterable[str], key: str, *, are_patterns: bool) -> None:
    """Raise ConfigError, with the config key `key`, if one of `texts` matches no layer of the model.

    `are_patterns` says whether the texts are regular expressions; else they are last parts of names. Both
    match the end of a layer's full name.
    """
    names = [name for name, _ in model.named_modules()]
    for text in texts:
        pattern = rf"(.*\.)?({text})$" if are_patterns else rf"(.*\.)?{re.escape(text)}$"
        if not any(re.match(pattern, name) for name in names):
            layers = ", ".join(linear_layers(model))
            raise ConfigError(f"{key}: {text!r} matches no layer (linear layers: {layers})")


def _check_name(model: PreTrainedModel, name: str, key: str, layers: str, method: AdapterMethod) -> None:
    """Raise ConfigError if a name in `adapter.<key>` matches no layer, or none that can be trained.

    A list of layers can't be trained, nor, for most methods, a target without a weight matrix.
    """
    matched = [module for full_name, module in model.named_modules() if ends(full_name, name)]
    if not matched:
        raise ConfigError(f"adapter.{key}: {name!r} matches no layer (linear layers: {layers})")
    adaptable = all(isinstance(module, ADAPTABLE) for module in matched)
    if key == "target_modules" and not adaptable and method is not AdapterMethod.ln_tuning:
        raise ConfigError(f"adapter.{key}: {name!r} has no weight matrix to adapt (linear layers: {layers})")
    if any(isinstance(module, nn.ModuleList | nn.ModuleDict) for module in matched):
        raise ConfigError(f"adapter.{key}: {name!r} is a list of layers (name the layers in it)")


def _check_some_adapted(model: PreTrainedModel, adapter: AdapterConfig, targets: Sequence[str]) -> None:
    """Raise ConfigError if every adapted layer is inside a module that is trained as a whole."""
    targets = targets or [name for name in linear_layers(model) if name not in heads(model)]
    names = [name for name, _ in model.named_modules() if not is_within(name, adapter.modules_to_save)]
    if not any(ends(name, target) for name in names for target in targets):
        raise ConfigError(
            f"adapter.modules_to_save: {adapter.modules_to_save!r} contains all layers of target_modules, so "
            "none is left to adapt (shorten the list, or adapter=none trains the whole model)"
        )


def check_saved(model: PreTrainedModel, adapter: AdapterConfig, quantization: QuantizationConfig) -> None:
    """Raise ConfigError if a layer of `adapter.modules_to_save`, or adapted experts, would be quantized.

    Experts may be in 8 bits. `model` has the adapter's layers, and may be on the meta device.
    """
    if quantization.method is QuantizationMethod.none:
        return
    check_experts(model, quantization)
    unquantized = [*heads(model), *quantization.skip_modules]
    for target in adapter.modules_to_save:
        for name, module in model.named_modules():
            linear = isinstance(module, nn.Linear | Conv1D) and is_within(name, [target])
            if linear and not is_within(name, unquantized):
                raise ConfigError(
                    f"adapter.modules_to_save: {target!r} is quantized to {quantization.method.value} and "
                    f"can't be trained (quantization.skip_modules=[{target}] leaves it unquantized)"
                )
