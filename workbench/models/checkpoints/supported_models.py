"""Refuses models that can't be trained or evaluated, before their weights are read."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    BertGenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import __version__ as transformers_version

from workbench.config.model import Task
from workbench.errors import CheckpointError
from workbench.models.checkpoints import chatglm

HEADS = ("lm_head.weight", "embed_out.weight", "head.weight", "unembed.weight", "output_layer.weight")
"""Names, or ends of names, of the language model head's weight in checkpoints."""
MAPPINGS: dict[Task, Any] = {
    Task.causal_lm: MODEL_FOR_CAUSAL_LM_MAPPING,
    Task.sequence_classification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
}
"""Task -> transformers' mapping from a configuration class to the model class of the task."""
TASK_NAMES = {Task.causal_lm: "causal language model", Task.sequence_classification: "classifier"}


def alternative(model_type: str) -> str:
    """Return what to do, for a message on a `model_type` that can't be read as an Open-Llama."""
    mappings = [MAPPINGS[task] for task in Task]
    if model_type == chatglm.MODEL_TYPE:
        return "model.architecture=auto reads it as transformers' Glm"
    if model_type in CONFIG_MAPPING and any(CONFIG_MAPPING[model_type] in mapping for mapping in mappings):
        return "model.architecture=auto supports it"
    return "a decoder-only language model"


def check_known(config: Mapping[str, Any], file: Path) -> None:
    """Refuse a `model_type` that transformers has no configuration class for; a missing one passes.

    Args:
        config: Content of config.json.
        file: Path of config.json, for messages.

    Raises:
        CheckpointError: Transformers has no such class.
    """
    model_type = config.get("model_type")
    if model_type is not None and model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{file}: transformers {transformers_version} has no model_type {str(model_type)[:60]!r} "
            "(a later version may)"
        )


def check_kind(config: PreTrainedConfig, path: Path, task: Task) -> None:
    """Refuse a model type that can't do the task, and encoder-decoders.

    For a causal model, bidirectional encoders and models of images or audio alone are refused, too.

    Args:
        config: The model's configuration.
        path: The model, for messages.
        task: `model.task`.

    Raises:
        CheckpointError: The model is refused; the message names its type, and what to do.
    """
    where = f"{path}: model_type {config.model_type!r}"
    if getattr(config, "is_encoder_decoder", False):
        raise CheckpointError(f"{where} is an encoder-decoder, which is not supported (a decoder-only model)")
    has_classifier = type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    classifier = (
        "model.task=sequence_classification supports it" if has_classifier else "a decoder-only model"
    )
    if type(config) not in MAPPINGS[task]:
        way_out = classifier if task is Task.causal_lm else "a text model such as LLaMA, Qwen or BERT"
        raise CheckpointError(f"{where}: transformers has no {TASK_NAMES[task]} of this type ({way_out})")
    if task is not Task.causal_lm:
        return
    is_masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING or isinstance(config, BertGenerationConfig)
    if is_masked and not getattr(config, "is_decoder", getattr(config, "causal", False)):
        raise CheckpointError(
            f"{where} is a bidirectional encoder and can't predict the next token ({classifier})"
        )
    media = [name for name in type(config).sub_configs if name.startswith(("vision", "audio"))]
    if media and "text_config" not in type(config).sub_configs:
        modalities = " and ".join("images" if name.startswith("vision") else "audio" for name in media)
        raise CheckpointError(f"{where} is a model for {modalities} (a text model)")


def check_head(path: Path, names: Collection[str], model: PreTrainedModel) -> None:
    """Refuse a causal model whose checkpoint has no language model head: the head would be random.

    Args:
        path: The model folder, for messages.
        names: Names of the tensors in its files.
        model: The model on the meta device.

    Raises:
        CheckpointError: The head is missing, and isn't tied to the embedding.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Module) or model.config.get_text_config().tie_word_embeddings:
        return
    name = next((f"{name}.weight" for name, module in model.named_modules() if module is head), "")
    ends = (*HEADS, name.rpartition("model.")[2]) if name else HEADS
    if not any(stored.endswith(ends) for stored in names):
        saved_as = ", ".join(model.config.architectures or ["an unknown class"])
        raise CheckpointError(
            f"{path}: the language model head, {name or HEADS[0]}, is missing (saved as {saved_as}; "
            "name a checkpoint with the head, or model.task=sequence_classification)"
        )
