"""Attaches adapters to a base model, loads and saves them, and checks that training changed them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.adapter import AdapterConfig
from workbench.contexts import forked_random_state, quiet_transformers
from workbench.distributed import unsplit_weights
from workbench.errors import CheckpointError, ConfigError, first_line
from workbench.models.adapters.adapter_config import (
    CONFIG_FILE,
    LABELS_FILE,
    check_copies,
    check_restorable,
    label_names,
    read_config,
    read_weights,
    tidy_config,
)
from workbench.models.adapters.base_copies import parameters_of
from workbench.models.adapters.check_fit import check_fit, check_kind, check_values
from workbench.models.adapters.config_bounds import check_announced
from workbench.models.adapters.init_from_weights import FROM_WEIGHTS, start_from_weights
from workbench.models.adapters.methods import FROM_BASE
from workbench.models.adapters.peft_config import check_biases, is_classifier, peft_config
from workbench.models.adapters.peft_warnings import without_peft_warnings
from workbench.models.adapters.provenance import TrainedOn, check_not_contained, write_trained_on
from workbench.models.adapters.targets import check_targets, shared_layers
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.experts import log_adapted
from workbench.models.stored import Stored
from workbench.run_dir import new_folder, write_json


def attach(
    model: PreTrainedModel, adapter: AdapterConfig, seed: int, token_ids: Sequence[int] = ()
) -> PeftModel:
    """Attach a trainable adapter to `model`: the adapter at `adapter.path`, or a new one drawn from `seed`.

    `model` is changed in place: it gets the adapter's layers, in its mode (train or eval), and its weights
    are frozen, except for embeddings of `token_ids` with a new adapter. The global random state is kept.

    Raises:
        ConfigError: A target matches no layer, or this base doesn't allow the method or initialization.
        CheckpointError: As in `load`, for the adapter at `adapter.path`.
    """
    if adapter.path is not None:
        return load(model, adapter.path, trainable=True)
    check_targets(model, adapter)
    peft_model = _insert_new(model, adapter, seed, token_ids)
    log_adapted(peft_model)
    _prepare(peft_model, trainable=True)
    if adapter.init in FROM_WEIGHTS:
        start_from_weights(cast(LoraModel, peft_model.base_model), adapter.init)
    return peft_model


def check_attachable(model: PreTrainedModel, adapter: AdapterConfig) -> None:
    """Check on a model without weights (meta device), which gets the layers, that an adapter can be attached.

    Raises:
        ConfigError: A target matches no layer, or peft refuses an option.
    """
    check_targets(model, adapter)
    if adapter.method in FROM_BASE:
        peft_config(model, adapter)
    else:
        _insert_new(model, adapter, seed=0)


def count_trained(model: PreTrainedModel, adapter: AdapterConfig) -> int:
    """Insert a new adapter into `model`, which may be on the meta device; return its number of parameters.

    0 for methods whose layers are computed from the base's weights, since the meta device lacks these.
    Options that peft refuses raise ConfigError.
    """
    if adapter.method in FROM_BASE:
        return 0
    trained = _insert_new(model, adapter, seed=0).parameters()
    return sum(parameter.numel() for parameter in trained if parameter.requires_grad)


def _insert_new(
    model: PreTrainedModel, adapter: AdapterConfig, seed: int, token_ids: Sequence[int] = ()
) -> PeftModel:
    """Insert the layers of a new adapter, initialized from `seed`.

    Raises:
        ConfigError: peft refuses the options, or the method trains a bias and a base layer has none.
    """
    config = peft_config(model, adapter, token_ids)
    try:
        with without_peft_warnings():
            peft_model = _insert_layers(model, config, seed)
    except (*BROKEN, ImportError) as error:
        reason = f"peft can't put {adapter.method.name} on this model: {first_line(error)}"
        raise ConfigError(f"adapter.options: {reason}") from error
    check_biases(peft_model, adapter)
    return peft_model


def load(model: PreTrainedModel, path: str | Path, trainable: bool = False) -> PeftModel:
    """Attach the adapter at `path`, a folder or hub id, to `model`; `trainable` says whether for training.

    `model` is changed in place: it gets the adapter's layers, in its mode (train or eval), and label names,
    if any; its weights are frozen.

    Raises:
        CheckpointError: There is no adapter at `path`, it is damaged, doesn't fit this model, can't be
            restored by a load, or was merged into the model.
    """
    check_copies(path, parameters_of(model))
    weights = read_weights(path)
    peft_model = insert(model, path, weights, trainable)
    check_values(path, weights, state_dict(peft_model))
    set_peft_model_state_dict(peft_model, weights)
    if (labels := label_names(path)) is not None:
        _set_label_names(model, labels)
    _prepare(peft_model, trainable)
    return peft_model


def insert(
    model: PreTrainedModel, path: str | Path, weights: Mapping[str, Stored], trainable: bool = False
) -> PeftModel:
    """Insert the layers of the adapter at `path` into `model`, with initial values instead of the adapter's.

    Args:
        model: The base, changed in place; it may be on the meta device.
        path: Folder or hub id of the adapter.
        weights: The adapter's tensors, of which only names and shapes are used.
        trainable: Whether the adapter's parameters get gradients.

    Raises:
        CheckpointError: The adapter doesn't fit, can't be restored by a load, or was merged into the model.
    """
    config = read_config(path)
    check_restorable(config, path, trainable=trainable)
    check_kind(config, path, model)
    check_not_contained(model.name_or_path, path)
    config.inference_mode = not trainable
    check_announced(config, weights, [name for name, _ in model.named_modules()], Path(path) / CONFIG_FILE)
    try:
        with without_peft_warnings():
            peft_model = _insert_layers(model, config, seed=0)
    except (*BROKEN, ImportError) as error:
        raise CheckpointError(f"{path}: does not fit this model: {first_line(error)}") from error
    check_fit(path, weights, state_dict(peft_model))
    return peft_model


def save(
    model: PeftModel,
    folder: Path,
    base_name: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    trained_on: TrainedOn | None = None,
) -> None:
    """Write the adapter to `folder` in peft's format, as safetensors; equal adapters give equal bytes.

    So are a classifier's label names. An adapter initialized from the base weights (pissa, olora) is saved as
    plain LoRA of twice the rank on the unchanged base.

    Args:
        model: Model with adapter, from `attach` or `load`.
        folder: Folder to write; an existing one is replaced as a whole, or after an error not at all.
        base_name: The base model as the user named it; None: the path it was loaded from.
        tokenizer: Saved together with the base's generation config; None: neither is saved.
        trained_on: Description of the base for trained_on.json; None: no such file.
    """
    base = base_model(model)
    with new_folder(folder) as temporary, without_peft_warnings():
        model.save_pretrained(str(temporary), save_embedding_layers=False, state_dict=unsplit_weights(model))
        # peft's model card contains local paths; the leaderboard writes a better one.
        (temporary / "README.md").unlink(missing_ok=True)
        tidy_config(temporary / CONFIG_FILE, base_name or base.name_or_path)
        if is_classifier(base):
            write_json(temporary / LABELS_FILE, list(cast(dict[int, str], base.config.id2label).values()))
        if trained_on is not None:
            write_trained_on(trained_on, temporary)
        if tokenizer is not None:
            with quiet_transformers():
                tokenizer.save_pretrained(temporary)
                if base.can_generate() and base.generation_config is not None:
                    base.generation_config.save_pretrained(temporary)


def check_did_something(model: PeftModel) -> None:
    """Check that all tensors of the adapter are finite and, if there are matrices B, that one isn't zero.

    Raises:
        CheckpointError: Every lora_B is zero, or a tensor isn't finite.
    """
    tensors = state_dict(model)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"adapter: {name} has NaN or infinite values (try a lower train.learning_rate)"
            )
    updates = [tensor for name, tensor in tensors.items() if "lora_B" in name or "lora_embedding_B" in name]
    if updates and not any(bool(tensor.any()) for tensor in updates):
        raise CheckpointError(
            f"adapter: all {len(updates)} lora_B matrices are zero, so the adapter has no effect "
            "(untrained, train.learning_rate is 0, or train.warmup_steps covers all steps)"
        )


def base_model(model: PeftModel) -> PreTrainedModel:
    """Return the base model inside a peft model, not a copy; its adapted layers are peft's layers."""
    return cast(PreTrainedModel, model.get_base_model())


def inner_model(model: PeftModel) -> PreTrainedModel:
    """Return the same as `base_model`, after checking that the active adapter adapts layers.

    Raises:
        ConfigError: It puts trained tokens before the text instead.
    """
    config = model.active_peft_config
    if config.is_prompt_learning:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise ConfigError(f"adapter: {kind} puts tokens before the text (one in the layers, such as LoRA)")
    return base_model(model)


def state_dict(model: PeftModel) -> dict[str, Tensor]:
    """Return name in the adapter file -> the adapter's tensor in the model, not a copy."""
    with without_peft_warnings():
        return dict(get_peft_model_state_dict(model, unsplit_weights(model), save_embedding_layers=False))


def _insert_layers(model: PreTrainedModel, config: PeftConfig, seed: int) -> PeftModel:
    """Insert the adapter's layers, initialized from `seed`; the global random state doesn't change."""
    if getattr(config, "trainable_token_indices", None) and shared_layers(model):
        model.config.tie_word_embeddings = True  # whichever field ties them; peft reads only this one
    with forked_random_state():
        torch.manual_seed(seed)
        is_empty = all(weight.is_meta for weight in model.parameters())  # so the adapter's can be, too
        peft_model = cast(PeftModel, get_peft_model(model, config, low_cpu_mem_usage=is_empty))
    saved = [module for module in peft_model.modules() if isinstance(module, ModulesToSaveWrapper)]
    for module in saved:
        for layer in module.modules_to_save.values():
            if isinstance(layer, nn.Linear):
                _keep_in_float32(layer)
    for module in saved:
        for layer in module.modules_to_save.values():
            if isinstance(layer, nn.Embedding):
                _return_in_dtype(layer, cast(Tensor, module.original_module.weight).dtype)
    return peft_model


def _keep_in_float32(layer: nn.Linear) -> None:
    """Convert a trained 16-bit layer and its inputs to float32, since bfloat16 would lose small updates."""
    if layer.weight.dtype in (torch.bfloat16, torch.float16):
        layer.float()
        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))


def _return_in_dtype(layer: nn.Embedding, dtype: torch.dtype) -> None:
    """Make an embedding return `dtype`, also if its weight is that of a head trained in float32."""
    if layer.weight.dtype != dtype:
        layer.register_forward_hook(lambda _, __, output: output.to(dtype))


def _prepare(model: PeftModel, trainable: bool) -> None:
    """Give the adapter's layers the base's mode (train or eval); for training, enable input gradients.

    In peft's configuration, target modules are sorted and the base's name is cleared.
    """
    base = base_model(model)
    model.train(base.training)
    if trainable:
        cast(Any, base).enable_input_require_grads()
    for config in cast(dict[str, LoraConfig], model.peft_config).values():
        # With a name, peft would query the hub for the base at each checkpoint; `save` writes the name.
        config.base_model_name_or_path = ""
        # peft has a set, whose order in the file would depend on PYTHONHASHSEED.
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)


def _set_label_names(model: PreTrainedModel, names: list[str]) -> None:
    """Set the classifier's label names to those that the adapter was trained with."""
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
