"""Adds further adapters to a model that has one: all share the base's weights, and only one is active."""

from pathlib import Path

from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from workbench.errors import CheckpointError, first_line
from workbench.models.adapters.adapter_config import (
    CONFIG_FILE,
    check_copies,
    check_restorable,
    read_config,
    read_weights,
)
from workbench.models.adapters.attach import base_model
from workbench.models.adapters.base_copies import parameters_of
from workbench.models.adapters.check_fit import check_fit, check_kind, check_values
from workbench.models.adapters.config_bounds import check_announced
from workbench.models.adapters.peft_warnings import without_peft_warnings
from workbench.models.adapters.provenance import check_not_contained
from workbench.models.checkpoints.checkpoint import BROKEN

FIRST = "default"
"""peft's name of the adapter that the model was created with."""
WHOLE = ("modules_to_save", "trainable_token_indices")
"""Fields of layers or rows that an adapter replaces instead of adding to them."""


def add_further(model: PeftModel, name: str, path: str | Path) -> None:
    """Add the adapter at `path`, a folder or hub id, to `model` under `name`, for inference.

    It has no effect until `select` activates it.

    Raises:
        CheckpointError: There is no adapter at `path`, it is damaged, a classifier's, or doesn't fit the
            model; or one of the adapters replaces whole layers, so that it can't share a base.
    """
    config, base = read_config(path), base_model(model)
    check_restorable(config, path)
    check_kind(config, path, base)
    check_not_contained(base.name_or_path, path)
    _check_shareable(config, path)
    _check_shareable(model.peft_config[FIRST], "the first adapter")
    config.inference_mode = True
    check_copies(path, parameters_of(base))
    weights = read_weights(path)
    layers = [layer for layer, _ in base.named_modules() if not _is_of_adapter(layer)]
    check_announced(config, weights, layers, Path(path) / CONFIG_FILE)
    try:
        with without_peft_warnings():
            model.add_adapter(name, config)
    except (*BROKEN, ImportError) as error:
        raise CheckpointError(
            f"{path}: does not fit beside the first adapter: {first_line(error)}"
        ) from error
    with without_peft_warnings():
        expected = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    try:
        check_fit(path, weights, expected)
        check_values(path, weights, expected)
    except CheckpointError:
        model.delete_adapter(name)
        raise
    set_peft_model_state_dict(model, weights, adapter_name=name)
    model.train(base.training)


def select(model: PeftModel, name: str) -> None:
    """Activate the model's adapter of this name, and deactivate the others; none is trainable then."""
    model.set_adapter(name, inference_mode=True)


def _check_shareable(config: PeftConfig, where: str | Path) -> None:
    """Raise CheckpointError if an adapter replaces whole layers, which adapters that take turns can't do."""
    for field in WHOLE:
        if getattr(config, field, None):
            raise CheckpointError(
                f"{where}: has {field}, so it can't share a base with other adapters (merge it, and load the "
                "merged model)"
            )


def _is_of_adapter(layer: str) -> bool:
    """Return whether the name of a module is that of an adapter's own part, or of the layer wrapped in it."""
    return any(part == "base_layer" or part.startswith("lora_") for part in layer.split("."))
