"""Loads the model and the tokenizer of the section `model` onto a device."""

import logging
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from workbench.config.model import LossKernel, ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.contexts import quiet_transformers
from workbench.errors import ConfigError
from workbench.log_once import log_once
from workbench.models import auto_model
from workbench.models.architecture import is_native, native_reason, unpacked_method
from workbench.models.checkpoints.checkpoint import BROKEN, SCORE, Checkpoint, broken, describe, read
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.meta_llama import is_meta
from workbench.models.checkpoints.state_dict import existing_files
from workbench.models.checkpoints.validation import fitted
from workbench.models.device import attention_name, loading_options, torch_device
from workbench.models.dtypes import chosen_dtype, dtype_name
from workbench.models.experts import quantized_share
from workbench.models.open_llama import (
    OpenLlamaConfig,
    OpenLlamaForCausalLM,
    OpenLlamaForSequenceClassification,
)
from workbench.models.open_llama.relatives import OPTIONAL_FIELDS
from workbench.models.ops.fused import check_compiles, enable_compiled, enable_fused
from workbench.models.ops.liger import check_liger, enable_liger
from workbench.models.ops.native_rope import separate_ropes
from workbench.models.quantization import check_device, is_quantized, parameter_count, stabilize
from workbench.models.tokenizers.load_tokenizer import load_tokenizer
from workbench.models.trials.native_note import native_note

__all__ = [
    "check_kernels",
    "check_model",
    "has_trained_head",
    "has_weights",
    "load_model",
    "load_tokenizer",
    "outline",
    "read_config",
]

CLASSES: dict[Task, type[PreTrainedModel]] = {
    Task.causal_lm: OpenLlamaForCausalLM,
    Task.sequence_classification: OpenLlamaForSequenceClassification,
}
ALIGNMENT_BYTES = 64
"""Size of a cache line, to which torch aligns tensors: matrix products are fastest on aligned ones."""

logger = logging.getLogger("workbench")


def load_model(
    model: ModelConfig, quantization: QuantizationConfig, num_labels: int | None = None
) -> PreTrainedModel:
    """Load the model in eval mode onto its device, and log a one-line summary.

    Weights that the checkpoint lacks (all with `model.init`, `score` of a new classifier) are drawn from
    torch's global random state: seed it before. `model.fused`, `model.compile` and `model.tf32` are set for
    all models of the process, as is `model.loss`.

    Args:
        model: Section `model` of the configuration.
        quantization: Section `quantization` of the configuration.
        num_labels: Outputs of a classifier; None: the checkpoint's.

    Raises:
        ConfigError: Keys contradict each other or the model.
        CheckpointError: The checkpoint is damaged, has another architecture, or doesn't fit.
        DeviceError: The device doesn't support the quantization, `model.compile` or `model.loss`.
    """
    check_device(quantization, torch_device(model.device))
    check_kernels(model)
    enable_compiled(False)  # during trials
    enable_liger(False)
    enable_fused(model.fused)
    torch.backends.cuda.matmul.allow_tf32 = model.tf32
    reason = native_reason(model)
    with quiet_transformers():
        if model.init:
            loaded, origin = _random_model(model, quantization, num_labels), "new, random weights"
        elif reason:
            path = locate(model.path, model.revision)
            loaded, origin = auto_model.load(path, model, quantization, num_labels), "native"
            separate_ropes(loaded)
        else:
            loaded, origin = _open_llama(model, quantization, num_labels)
    stabilize(loaded, quantization)
    if model.task is Task.sequence_classification:
        # The head reads each row's last token that isn't this one, so it must be the padding token.
        loaded.config.get_text_config().pad_token_id = load_tokenizer(model).pad_token_id
    loaded.name_or_path = loaded.config.name_or_path = model.path or ""
    note = native_note(loaded, model, reason) if reason else ""  # its trials need `stabilize`
    logger.info(_summary(loaded, model, quantization, origin))
    if note:
        log_once(f"{model.path}: {note}")
    if share := quantized_share(loaded):
        logger.info("%s", share)
    loaded.train(False)
    enable_compiled(model.compile)
    enable_liger(model.loss is LossKernel.liger)
    return loaded


def check_model(model: ModelConfig, quantization: QuantizationConfig) -> None:
    """Check what `load_model` and `load_tokenizer` check, without reading the weights.

    Raises:
        WorkbenchError: As in these two.
    """
    check_device(quantization, torch_device(model.device))
    if is_native(model):
        auto_model.check(locate(model.path, model.revision), model.task)
    load_tokenizer(model)
    if model.init:
        _init_config(model)
    elif not is_native(model):
        checkpoint = read(locate(model.path, model.revision))
        fitted(checkpoint, CLASSES[model.task])


def check_kernels(model: ModelConfig) -> None:
    """Check that this machine can run the kernels that `model.compile` and `model.loss` choose.

    Raises:
        ConfigError: A package is missing.
        DeviceError: It can't.
    """
    if model.compile:
        check_compiles(torch_device(model.device))
    if model.loss is LossKernel.liger:
        check_liger(torch_device(model.device))


def has_weights(model: ModelConfig) -> bool:
    """Return whether the model has weight files; False with `model.init`. Errors are those of `locate`."""
    if model.init:
        return False
    path = locate(model.path, model.revision)
    return path.is_file() or is_meta(path) or any(file.is_file() for file in existing_files(path))


def has_trained_head(model: ModelConfig) -> bool:
    """Return whether there is a trained classification head; if not, `load_model` draws one. See `locate`."""
    if model.init:
        return False
    path = locate(model.path, model.revision)
    if is_native(model):
        names = auto_model.read_config(path).architectures or []
        return any(name.endswith("ForSequenceClassification") for name in names)
    return has_weights(model) and SCORE in read(path).tensors


def read_config(model: ModelConfig) -> tuple[PreTrainedConfig, torch.dtype]:
    """Return the configuration and the dtype that `load_model` would give, without reading the weights.

    The configuration is a new object at each call.

    Raises:
        WorkbenchError: As in `load_model`.
    """
    if model.init:
        return _init_config(model), chosen_dtype(model.dtype, torch.float32)
    path = locate(model.path, model.revision)
    if is_native(model):
        config = auto_model.checked_config(path, model.task)
        own = torch.bfloat16 if path.is_file() else config.dtype
        return config, chosen_dtype(model.dtype, own if isinstance(own, torch.dtype) else torch.float32)
    checkpoint = read(path) if has_weights(model) else describe(path)
    return checkpoint.config, chosen_dtype(model.dtype, checkpoint.dtype)


def outline(model: ModelConfig, num_labels: int | None = None) -> PreTrainedModel:
    """Return the model that `load_model` would return, unquantized and on the meta device.

    It has names and shapes, but no weights; its dtype may differ.

    Args:
        model: Section `model`; its folder needs only a config.json.
        num_labels: Outputs of a classifier; None: the configuration's.

    Raises:
        WorkbenchError: The configuration can't be read, or has an invalid value.
    """
    config, dtype = read_config(model)
    if num_labels is not None:
        config.num_labels = num_labels
    path = Path("model.init") if model.init else locate(model.path, model.revision)
    try:
        with torch.device("meta"), quiet_transformers():
            if not is_native(model):
                return CLASSES[model.task](config)
            empty = auto_model.CLASSES[model.task].from_config(
                config, dtype=dtype, trust_remote_code=auto_model.runs_code(path)
            )
    except auto_model.LOAD_ERRORS as error:
        raise broken(path, error) from error
    return cast(PreTrainedModel, empty)


def _open_llama(
    model: ModelConfig, quantization: QuantizationConfig, num_labels: int | None
) -> tuple[PreTrainedModel, str]:
    """Load the checkpoint as an Open-Llama; return the model, and a text about the checkpoint's format."""
    checkpoint = read(locate(model.path, model.revision))
    if num_labels is not None:
        checkpoint.config.num_labels = num_labels
    tensors = fitted(checkpoint, CLASSES[model.task])
    loaded = CLASSES[model.task].from_pretrained(
        None,
        config=checkpoint.config,
        state_dict=cast(dict[str, torch.Tensor], tensors),
        generation_config=checkpoint.generation,
        **loading_options(model, quantization, checkpoint.dtype),
    )
    for parameter in loaded.parameters():
        if parameter.data_ptr() % ALIGNMENT_BYTES:
            parameter.data = parameter.data.clone()
    return loaded, _origin(checkpoint, model.task)


def _origin(checkpoint: Checkpoint, task: Task) -> str:
    """Describe a checkpoint's format, and what the conversion changed or added, for the log."""
    notes = [checkpoint.origin]
    if checkpoint.note:
        notes.append(checkpoint.note)
    if task is Task.sequence_classification and SCORE not in checkpoint.tensors:
        notes.append("the score head is new")
    return "; ".join(notes)


def _init_config(model: ModelConfig) -> OpenLlamaConfig:
    """Return the configuration of `model.init`; vocabulary size and token ids default to the tokenizer's.

    Raises:
        ConfigError: OpenLlamaConfig doesn't have a field, or a value is invalid.
    """
    unwritten = {"num_key_value_heads", "head_dim", *OPTIONAL_FIELDS, "rope_scaling", "rope_theta"}
    known = set(OpenLlamaConfig().to_dict()) | unwritten
    if unknown := sorted(set(model.init) - known):
        raise ConfigError(f"model.init.{unknown[0]}: OpenLlamaConfig has no such field")
    tokenizer = load_tokenizer(model)
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("pad", "bos", "eos")}
    try:
        return OpenLlamaConfig(**{"vocab_size": len(tokenizer), **ids, **model.init})
    except BROKEN as error:
        reason = " ".join(str(error).split()).removeprefix("config.json: ")
        raise ConfigError(f"model.init: {reason}") from error


def _random_model(
    model: ModelConfig, quantization: QuantizationConfig, num_labels: int | None
) -> PreTrainedModel:
    """Create a model with random weights.

    Raises:
        ConfigError: See `_init_config`; or a quantization is given, with which new weights can't be trained.
    """
    if quantization.method is not QuantizationMethod.none:
        method = quantization.method.value
        raise ConfigError(f"model.init: new weights can't be trained in {method} (quantization=none)")
    config = _init_config(model)
    if num_labels is not None:
        config.num_labels = num_labels
    config.dtype = chosen_dtype(model.dtype, torch.float32)
    created: nn.Module = CLASSES[model.task](config)
    device = torch_device(model.device)
    if attention := attention_name(model.attention, config.dtype, device):
        cast(PreTrainedModel, created).set_attn_implementation(attention)
    return cast(PreTrainedModel, created.to(device, config.dtype))


def _summary(
    loaded: PreTrainedModel, model: ModelConfig, quantization: QuantizationConfig, origin: str
) -> str:
    """Describe the loaded model in one line for the log."""
    stored = quantization.method is QuantizationMethod.none and is_quantized(loaded)
    if method := unpacked_method(model, quantization):
        origin = f"{origin}; {method}, unpacked to {dtype_name(loaded.dtype)}"
    facts = [
        f"{parameter_count(loaded):,} parameters",
        dtype_name(loaded.dtype),
        f"quantization {'bitsandbytes, as stored' if stored else quantization.method.value}",
        f"attention {loaded.config._attn_implementation}",
        str(loaded.device),
        *([] if model.fused else ["model.fused off"]),
        *(["compiled"] if model.compile else []),
        *(["loss by liger"] if model.loss is LossKernel.liger else []),
        *(["TF32"] if model.tf32 and loaded.device.type == "cuda" else []),
    ]
    return f"{type(loaded).__name__} from {model.path or 'model.init'} ({origin}): {', '.join(facts)}"
