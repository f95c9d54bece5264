"""Adapters on a base model: attach, save, load, and check that they did something."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.adapter import ALL_LINEAR, AdapterConfig, AdapterInit, AdapterMethod
from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError, ConfigError, first_line
from workbench.models.adapters.adapter_config import (
    CONFIG_FILE,
    HEAD,
    LABELS_FILE,
    label_names,
    read_config,
    read_weights,
    tidy_config,
)
from workbench.models.adapters.config_bounds import check_announced
from workbench.models.adapters.init_from_weights import FROM_WEIGHTS, start_from_weights
from workbench.models.adapters.targets import (
    check_targets,
    heads,
    linear_layers,
    shared_layers,
    trainable_tokens,
)
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.run_dir import new_folder, write_json

INIT: dict[AdapterInit, bool | str] = {
    AdapterInit.default: True,
    AdapterInit.gaussian: "gaussian",
    AdapterInit.orthogonal: "orthogonal",
}
"""peft's word for each start but those from the base weights, which are ours."""


def attach(
    model: PreTrainedModel, adapter: AdapterConfig, seed: int, token_ids: Sequence[int] = ()
) -> PeftModel:
    """A trainable adapter on `model`: the one at `adapter.path`, else a new one, the same for the same seed.

    The base weights are frozen, but for the embeddings of `token_ids`. The global random state is left as it
    was.

    Raises:
        ConfigError: a target that no layer matches, or a start that this base doesn't allow.
    """
    if adapter.path is not None:
        return load(model, adapter.path, trainable=True)
    check_targets(model, adapter)
    with _without_peft_noise():
        peft_model = _wrap(model, _peft_config(model, adapter, token_ids), seed)
    _settle(peft_model, trainable=True)
    if adapter.init in FROM_WEIGHTS:
        start_from_weights(cast(LoraModel, peft_model.base_model), adapter.init)
    return peft_model


def load(model: PreTrainedModel, path: str | Path, trainable: bool = False) -> PeftModel:
    """The adapter at `path` on `model`, for use, or to train it further.

    Raises:
        CheckpointError: no adapter there, or one that was made for another model.
    """
    config = read_config(path)
    config.inference_mode = not trainable
    weights = read_weights(path)
    check_announced(config, weights, [name for name, _ in model.named_modules()], Path(path) / CONFIG_FILE)
    try:
        with _without_peft_noise():
            peft_model = _wrap(model, config, seed=0)
    except (*BROKEN, ImportError) as error:
        raise CheckpointError(f"{path}: does not fit this model: {first_line(error)}") from error
    expected = state_dict(peft_model)
    _check_fit(path, weights, expected)
    _check_numbers(path, weights, expected)
    set_peft_model_state_dict(peft_model, weights)
    labels = label_names(path)
    if labels is not None:
        _name_labels(model, labels)
    _settle(peft_model, trainable)
    return peft_model


def save(
    model: PeftModel,
    folder: Path,
    base_name: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write the adapter to `folder` in peft's format: the same bytes for the same adapter, safetensors only.

    One that started from the base weights (pissa, olora) is plain LoRA of twice the rank, over the same base.

    Args:
        model: What `attach` or `load` gave.
        folder: Written whole, or not at all.
        base_name: The base model as the user named it; None: what it was loaded from.
        tokenizer: With the chat template that was trained; it and what ends an answer are written too.
    """
    base = base_model(model)
    with new_folder(folder) as temporary:
        model.save_pretrained(str(temporary), save_embedding_layers=False)
        # peft's card names paths of this machine; the leaderboard writes a better one.
        (temporary / "README.md").unlink(missing_ok=True)
        tidy_config(temporary / CONFIG_FILE, base_name or base.name_or_path)
        if _is_classifier(base):
            write_json(temporary / LABELS_FILE, list(cast(dict[int, str], base.config.id2label).values()))
        if tokenizer is not None:
            with quiet_transformers():
                tokenizer.save_pretrained(temporary)
                if base.can_generate() and base.generation_config is not None:
                    base.generation_config.save_pretrained(temporary)


def check_did_something(model: PeftModel) -> None:
    """Raise if the adapter leaves the base as it is, or is damaged.

    Raises:
        CheckpointError: every lora_B is zero, or a tensor isn't finite.
    """
    tensors = state_dict(model)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"adapter: {name} is not finite (try a lower train.learning_rate)")
    updates = [tensor for name, tensor in tensors.items() if "lora_B" in name or "lora_embedding_B" in name]
    if updates and not any(bool(tensor.any()) for tensor in updates):
        raise CheckpointError(
            f"adapter: all {len(updates)} lora_B matrices are zero, so it changes nothing "
            "(was it trained? is train.learning_rate 0, or every step one of train.warmup_steps?)"
        )


def base_model(model: PeftModel) -> PreTrainedModel:
    """The model that the adapter sits on; its layers still hold the adapter's."""
    return cast(PreTrainedModel, model.get_base_model())


def inner_model(model: PeftModel) -> PreTrainedModel:
    """The base model with the adapter in its layers, of any adapter that peft has made.

    Raises:
        ConfigError: The adapter is in no layer: it puts tokens before the text.
    """
    config = model.active_peft_config
    if config.is_prompt_learning:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise ConfigError(f"adapter: {kind} puts tokens before the text (one in the layers, such as LoRA)")
    return base_model(model)


def state_dict(model: PeftModel) -> dict[str, Tensor]:
    """The tensors of the adapter under the names of its file."""
    return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def _peft_config(model: PreTrainedModel, adapter: AdapterConfig, token_ids: Sequence[int]) -> LoraConfig:
    """The same knobs in peft's words."""
    classifier = _is_classifier(model)
    to_save = sorted({*adapter.modules_to_save, *([HEAD] if classifier else [])})
    targets = sorted(set(adapter.target_modules))
    if targets == [ALL_LINEAR]:
        targets = [name for name in linear_layers(model) if name not in {*heads(model), *to_save}]
    times = 2 if adapter.init in FROM_WEIGHTS else 1  # the start, and what takes it out
    alpha = adapter.alpha * (times**0.5 if adapter.use_rslora else times)
    return LoraConfig(
        task_type=TaskType.SEQ_CLS if classifier else TaskType.CAUSAL_LM,
        r=adapter.rank * times,
        lora_alpha=cast(int, int(alpha) if alpha == int(alpha) else alpha),
        lora_dropout=adapter.dropout,
        target_modules=targets,
        modules_to_save=to_save or None,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.method == AdapterMethod.dora,
        init_lora_weights=cast(Any, INIT.get(adapter.init, True)),
        rank_pattern={name: rank * times for name, rank in adapter.rank_pattern.items()},
        trainable_token_indices=trainable_tokens(model, adapter, token_ids),
    )


def _wrap(model: PreTrainedModel, config: PeftConfig, seed: int) -> PeftModel:
    """The adapter's layers in place, random as the seed says; the global random state stays."""
    if getattr(config, "trainable_token_indices", None) and shared_layers(model):
        model.config.tie_word_embeddings = True  # in any field's words; peft looks at this one only
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft_model = cast(PeftModel, get_peft_model(model, config))
    for module in peft_model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            for layer in module.modules_to_save.values():
                if isinstance(layer, nn.Linear):
                    _compute_in_float32(layer)
    return peft_model


def _compute_in_float32(layer: nn.Linear) -> None:
    """Hold a trained layer as the adapter's matrices are held: bfloat16 would round small steps away."""
    if layer.weight.dtype in (torch.bfloat16, torch.float16):
        layer.float()
        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))


@contextmanager
def _without_peft_noise() -> Iterator[None]:
    """Hide three warnings of peft 0.21 that no user of this project can act upon."""
    with warnings.catch_warnings():
        # It asks for gradient checkpointing under a name that transformers 5.23 calls old.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # Its own conversion to plain LoRA can't do this; ours can.
        warnings.filterwarnings("ignore", "Using Rank-Stabilized LoRA with rank_pattern", UserWarning)
        # It finds out by itself that GPT-2's layers hold their weights the other way round.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False but", UserWarning)
        yield


def _check_fit(path: str | Path, weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless the file holds exactly the tensors that the model expects."""
    reasons = [f"no layer for {name}" for name in sorted(weights.keys() - expected.keys())]
    reasons += [f"{name} is missing" for name in sorted(expected.keys() - weights.keys())]
    reasons += [
        f"{name} is {list(weights[name].shape)} in the file and {list(tensor.shape)} in the model"
        for name, tensor in sorted(expected.items())
        if name in weights and weights[name].shape != tensor.shape
    ]
    if reasons:
        shown = "; ".join(reasons[:2]) + (f", and {len(reasons) - 2} more" if len(reasons) > 2 else "")
        raise CheckpointError(f"{path}: does not fit this model: {shown} (was it made for another?)")


def _check_numbers(path: str | Path, weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise CheckpointError for tensors whose numbers can't be an adapter's: whole ones, NaN or infinity."""
    for name, tensor in sorted(weights.items()):
        if not expected[name].is_floating_point():
            continue
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{path}: {name} holds {kind}, no floating point numbers")
        if not bool(tensor.float().isfinite().all()):
            raise CheckpointError(
                f"{path}: {name} is not finite (the adapter is damaged, or its training was)"
            )


def _settle(model: PeftModel, trainable: bool) -> None:
    """Put the new layers in the base's mode, ready them for gradient checkpointing, sort what is saved."""
    base = base_model(model)
    model.train(base.training)
    if trainable:
        cast(Any, base).enable_input_require_grads()
    for config in cast(dict[str, LoraConfig], model.peft_config).values():
        # Without a name peft doesn't ask the hub for the base at each checkpoint; `save` writes the real one.
        config.base_model_name_or_path = ""
        # peft keeps a set, whose order in the file would depend on PYTHONHASHSEED.
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)


def _name_labels(model: PreTrainedModel, names: list[str]) -> None:
    """Give the classifier the label names that the adapter was trained with."""
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}


def _is_classifier(model: PreTrainedModel) -> bool:
    """Whether the model labels whole sequences."""
    return type(model).__name__.endswith("ForSequenceClassification")
