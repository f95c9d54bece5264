"""Checks that adapters can be combined: same base and task, same layer shapes, ranks that suit the method."""

import logging
from collections.abc import Sequence
from pathlib import PurePath

from torch import Tensor, nn

from workbench.config.merge import MergeConfig
from workbench.config.merge_method import MergeMethod
from workbench.config.model import ModelConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.models.adapters import adapter_config, provenance
from workbench.models.checkpoints.model_folder import base_weights
from workbench.models.combining.lora_factors import Factors, LoraAdapter
from workbench.models.loading import outline

log = logging.getLogger("workbench")


def check_compatible(
    adapters: Sequence[LoraAdapter],
    merge: MergeConfig,
    model: ModelConfig | None,
    *,
    accepts_base: bool = False,
) -> None:
    """Check adapters against each other and against their base.

    If chat templates differ, the log warns that the combination gets the first adapter's.

    Args:
        adapters: In the order of `merge.adapters`.
        merge: Section `merge` of the configuration.
        model: The base; None: the adapters aren't compared with it.
        accepts_base: Whether adapters may have been trained on different bases.

    Raises:
        CheckpointError: The adapters have different bases, tasks or layer shapes, or don't fit `model`.
        ConfigError: The method needs equal ranks.
    """
    first = adapters[0]
    for other in adapters[1:]:
        _check_base_names(first, other)
        if not accepts_base:
            _check_trained_alike(first, other)
        if first.task_type != other.task_type:
            raise CheckpointError(
                f"merge.adapters: {first.path!r} is for {first.task_type} and {other.path!r} for "
                f"{other.task_type} (combine adapters of one task)"
            )
        if adapter_config.chat_template(first.path) != adapter_config.chat_template(other.path):
            log.warning(
                "merge.adapters: %s has another chat template than %s, whose template the combination keeps "
                "(list first the adapter whose template is to be kept)",
                other.path,
                first.path,
            )
    for name in sorted({name for adapter in adapters for name in adapter.layers}):
        layers = [(adapter.path, adapter.layers[name]) for adapter in adapters if name in adapter.layers]
        _check_layer(name, layers)
        if not merge.combination.truncates and merge.combination is not MergeMethod.cat:
            _check_ranks(name, layers, merge.combination)
    if model is not None:
        _check_fit(adapters, model)


def _check_base_names(first: LoraAdapter, other: LoraAdapter) -> None:
    """Raise CheckpointError if two adapters name different bases, by the last parts of their paths."""
    if first.base_name is None or other.base_name is None:
        return
    if PurePath(first.base_name).name != PurePath(other.base_name).name:
        raise CheckpointError(
            f"merge.adapters: {first.path!r} was trained on {first.base_name!r} and {other.path!r} on "
            f"{other.base_name!r} (combine adapters of one base; if both names are the same model, correct "
            f"base_model_name_or_path in {adapter_config.CONFIG_FILE})"
        )


def _check_trained_alike(first: LoraAdapter, other: LoraAdapter) -> None:
    """Raise CheckpointError if two adapters record bases of other weights, quantizations or dtypes."""
    records = [provenance.read_trained_on(adapter.path) for adapter in (first, other)]
    if None in records:
        return
    base_facts = [[record.get(key) for key in provenance.HELD] for record in records if record is not None]
    for key, ours, theirs in zip(provenance.HELD, *base_facts, strict=True):
        if ours != theirs:
            difference = f"different {key} ({ours or 'none'}, {theirs or 'none'})"
            difference = "different weights" if key == "fingerprint" else difference
            raise CheckpointError(
                f"merge.adapters: {first.path!r} and {other.path!r} were trained on bases with {difference} "
                "(only adapters of one base fit together; adapter.base=accept combines them anyway)"
            )


def _sizes(layer: Factors) -> tuple[int, int, bool]:
    """Return the number of outputs and of inputs of a layer, and whether it is an embedding."""
    return layer.up.shape[0], layer.down.shape[1], layer.is_embedding


def _check_layer(name: str, layers: Sequence[tuple[str, Factors]]) -> None:
    """Raise CheckpointError if a layer has different shapes in two adapters."""
    first_path, first = layers[0]
    for path, layer in layers[1:]:
        if _sizes(layer) != _sizes(first):
            ours, theirs = (f"{factors.up.shape[0]} x {factors.down.shape[1]}" for factors in (first, layer))
            raise CheckpointError(
                f"merge.adapters: {name} is {ours} in {first_path!r} and {theirs} in {path!r} (combine "
                "adapters of one base)"
            )


def _check_ranks(name: str, layers: Sequence[tuple[str, Factors]], method: MergeMethod) -> None:
    """Raise ConfigError if a layer's ranks differ between adapters.

    Methods that combine the matrices A and B separately need equal ranks.
    """
    first_path, first = layers[0]
    for path, layer in layers[1:]:
        if layer.rank != first.rank:
            way_out = "cat or svd" if method is MergeMethod.linear else f"cat, svd or {method.value}_svd"
            raise ConfigError(
                f"merge.method: {method.value!r} needs equal ranks, and {name} has rank {first.rank} in "
                f"{first_path!r} and {layer.rank} in {path!r} (choose {way_out})"
            )


def _check_fit(adapters: Sequence[LoraAdapter], model: ModelConfig) -> None:
    """Check that the base has the adapters' layers, and the embeddings that their files have copies of.

    Raises:
        CheckpointError: It lacks a layer or has it in another shape, or another embedding.
    """
    modules = dict(outline(model).named_modules())
    weight_of = base_weights(model.path, model.revision)
    for adapter in adapters:
        adapter_config.check_copies(adapter.path, weight_of)
        for name, layer in adapter.layers.items():
            outputs, inputs, _ = _sizes(layer)
            module = modules.get(name)
            weight = getattr(module, "weight", None)
            if not isinstance(weight, Tensor) or not isinstance(module, nn.Module):
                raise CheckpointError(
                    f"merge.adapters: {adapter.path!r} does not fit {model.path!r}: the model has no layer "
                    f"{name} (was it trained on another model?)"
                )
            if sorted(weight.shape) != sorted((outputs, inputs)):
                raise CheckpointError(
                    f"merge.adapters: {adapter.path!r} does not fit {model.path!r}: {name} is "
                    f"{outputs} x {inputs} in the adapter and {' x '.join(map(str, weight.shape))} in the "
                    "model (was it trained on another model?)"
                )
