"""The model and the tokenizer of the `model` section, on a device."""

import logging
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from workbench.config.model import Architecture, ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.contexts import quiet_transformers
from workbench.errors import ConfigError
from workbench.models import auto_model
from workbench.models.checkpoints.checkpoint import BROKEN, SCORE, Checkpoint, read
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.validation import fitted
from workbench.models.device import attention_name, loading_options, torch_device
from workbench.models.dtypes import chosen_dtype, dtype_name
from workbench.models.open_llama import (
    OpenLlamaConfig,
    OpenLlamaForCausalLM,
    OpenLlamaForSequenceClassification,
)
from workbench.models.ops.fused import enable_fused
from workbench.models.quantization import check_device, is_quantized, parameter_count, settle
from workbench.models.tokenizers.load_tokenizer import load_tokenizer

__all__ = ["check_model", "has_trained_head", "load_model", "load_tokenizer", "outline", "read_config"]

CLASSES: dict[Task, type[PreTrainedModel]] = {
    Task.causal_lm: OpenLlamaForCausalLM,
    Task.sequence_classification: OpenLlamaForSequenceClassification,
}
ALIGNMENT_BYTES = 64  # of a cache line; what torch allocates at, and matrix products are fastest from

logger = logging.getLogger("workbench")


def load_model(
    model: ModelConfig, quantization: QuantizationConfig, num_labels: int | None = None
) -> PreTrainedModel:
    """The model of the task, in eval mode, on its device; what was loaded is said in one line.

    Weights that the checkpoint doesn't have (with `model.init` all, for a new classifier `score`) are
    drawn from torch's global random state: seed it before.

    Args:
        model: The section.
        quantization: The section.
        num_labels: Outputs of a classifier; None: the checkpoint's own.

    Raises:
        ConfigError: keys that contradict each other or the model.
        CheckpointError: the checkpoint is damaged, of another family, or doesn't fit.
        DeviceError: this machine can't hold it that way.
    """
    check_device(quantization, torch_device(model.device))
    enable_fused(model.fused)
    with quiet_transformers():
        if model.init:
            loaded, origin = _new(model, quantization, num_labels), "new, random weights"
        elif model.architecture is Architecture.native:
            path = locate(model.path, model.revision)
            loaded, origin = auto_model.load(path, model, quantization, num_labels), "native"
        else:
            loaded, origin = _open_llama(model, quantization, num_labels)
    settle(loaded, quantization)
    if model.task is Task.sequence_classification:
        # A head reads each row's last token that isn't this one, so it has to be what fills batches up.
        loaded.config.get_text_config().pad_token_id = load_tokenizer(model).pad_token_id
    loaded.name_or_path = loaded.config.name_or_path = model.path or ""
    logger.info(_description(loaded, model, quantization, origin))
    loaded.train(False)
    return loaded


def check_model(model: ModelConfig, quantization: QuantizationConfig) -> None:
    """Find what would stop `load_model` or `load_tokenizer` later, in seconds: nothing large is read.

    Raises:
        WorkbenchError: as those two do.
    """
    check_device(quantization, torch_device(model.device))
    if model.architecture is Architecture.native:
        auto_model.check(locate(model.path, model.revision), model.task)
    load_tokenizer(model)
    if model.init:
        _new_config(model)
    elif model.architecture is not Architecture.native:
        checkpoint = read(locate(model.path, model.revision))
        fitted(checkpoint, CLASSES[model.task])


def has_trained_head(model: ModelConfig) -> bool:
    """Whether the checkpoint brings a classification head, so that `load_model` draws none at random."""
    if model.init:
        return False
    path = locate(model.path, model.revision)
    if model.architecture is Architecture.native:
        names = auto_model.read_config(path).architectures or []
        return any(name.endswith("ForSequenceClassification") for name in names)
    return SCORE in read(path).tensors


def read_config(model: ModelConfig) -> tuple[PreTrainedConfig, torch.dtype]:
    """The configuration of what `load_model` would give and the type of its weights; nothing large is read.

    Raises:
        WorkbenchError: as `load_model` does.
    """
    if model.init:
        return _new_config(model), chosen_dtype(model.dtype, torch.float32)
    path = locate(model.path, model.revision)
    if model.architecture is Architecture.native:
        config = auto_model.checked_config(path, model.task)
        own = torch.bfloat16 if path.is_file() else config.dtype
        return config, chosen_dtype(model.dtype, own if isinstance(own, torch.dtype) else torch.float32)
    checkpoint = read(path)
    return checkpoint.config, chosen_dtype(model.dtype, checkpoint.dtype)


def outline(model: ModelConfig) -> PreTrainedModel:
    """What `load_model` would give without any weights: its layers have names and shapes."""
    config, dtype = read_config(model)
    with torch.device("meta"), quiet_transformers():
        if model.architecture is Architecture.native:
            trusted = auto_model.runs_code(locate(model.path, model.revision))
            made = auto_model.CLASSES[model.task].from_config(config, dtype=dtype, trust_remote_code=trusted)
            return cast(PreTrainedModel, made)
        return CLASSES[model.task](config)


def _open_llama(
    model: ModelConfig, quantization: QuantizationConfig, num_labels: int | None
) -> tuple[PreTrainedModel, str]:
    """The checkpoint as Open-Llama, and what it was."""
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
    """Where the weights came from, and what was switched or added on the way."""
    notes = [checkpoint.origin]
    if checkpoint.note:
        notes.append(checkpoint.note)
    if task is Task.sequence_classification and SCORE not in checkpoint.tensors:
        notes.append("the score head is new")
    return "; ".join(notes)


def _new_config(model: ModelConfig) -> OpenLlamaConfig:
    """The configuration that `model.init` describes; what it leaves out about tokens is the tokenizer's.

    Raises:
        ConfigError: a field that OpenLlamaConfig doesn't have, or a value that no model can have.
    """
    known = set(OpenLlamaConfig().to_dict()) | {"num_key_value_heads", "rope_scaling", "rope_theta"}
    if unknown := sorted(set(model.init) - known):
        raise ConfigError(f"model.init.{unknown[0]}: OpenLlamaConfig has no such field")
    tokenizer = load_tokenizer(model)
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("pad", "bos", "eos")}
    try:
        return OpenLlamaConfig(**{"vocab_size": len(tokenizer), **ids, **model.init})
    except BROKEN as error:
        reason = " ".join(str(error).split()).removeprefix("config.json: ")
        raise ConfigError(f"model.init: {reason}") from error


def _new(model: ModelConfig, quantization: QuantizationConfig, num_labels: int | None) -> PreTrainedModel:
    """A model with random weights.

    Raises:
        ConfigError: see `_new_config`; or quantized random weights, which could never be trained.
    """
    if quantization.method is not QuantizationMethod.none:
        method = quantization.method.value
        raise ConfigError(f"model.init: new weights can't be trained in {method} (quantization=none)")
    config = _new_config(model)
    if num_labels is not None:
        config.num_labels = num_labels
    config.dtype = chosen_dtype(model.dtype, torch.float32)
    created: nn.Module = CLASSES[model.task](config)
    device = torch_device(model.device)
    if attention := attention_name(model.attention, config.dtype, device):
        cast(PreTrainedModel, created).set_attn_implementation(attention)
    return cast(PreTrainedModel, created.to(device, config.dtype))


def _description(
    loaded: PreTrainedModel, model: ModelConfig, quantization: QuantizationConfig, origin: str
) -> str:
    """What was loaded, in one line."""
    stored = quantization.method is QuantizationMethod.none and is_quantized(loaded)
    facts = [
        f"{parameter_count(loaded):,} parameters",
        dtype_name(loaded.dtype),
        f"quantization {'bitsandbytes, as stored' if stored else quantization.method.value}",
        f"attention {loaded.config._attn_implementation}",
        str(loaded.device),
        *([] if model.fused else ["model.fused off"]),
    ]
    return f"{type(loaded).__name__} from {model.path or 'model.init'} ({origin}): {', '.join(facts)}"
