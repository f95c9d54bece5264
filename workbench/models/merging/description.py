"""Writes what describes a merged model: config.json in the base's format, generation settings, tokenizer."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from workbench.config.model import Architecture, ModelConfig, Task
from workbench.contexts import quiet_transformers
from workbench.models.checkpoints.checkpoint import description_file
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.llama_config import class_name, llama_config, write_config
from workbench.models.checkpoints.meta_llama import is_meta
from workbench.models.checkpoints.stable_embedding import HEAD, RECORD, fold
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.dtypes import dtype_name
from workbench.models.open_llama import OpenLlamaConfig
from workbench.models.open_llama.relatives import RELATIVES
from workbench.models.stored import Stored
from workbench.run_dir import write_json

CLASSIFIER_FIELDS = ("pad_token_id", "id2label", "label2id", "problem_type")
"""Fields of config.json that training a classifier changes."""
NOT_KEPT = ("quantization_config", "_name_or_path", "transformers_version")
DTYPE_FIELDS = ("dtype", "torch_dtype")
"""Names of the dtype in config.json: of transformers from version 5 on, and before."""


def came_as_llama(model: ModelConfig) -> bool:
    """Return whether a base that is read as an Open-Llama is a LLaMA on disk, and is to leave as one."""
    if model.architecture is Architecture.native:
        return False
    path = locate(model.path, model.revision)
    if path.is_file() or is_meta(path):
        return True
    return read_json_object(description_file(path)).get("model_type") != OpenLlamaConfig.model_type


def unquantized_config(base: PreTrainedModel) -> PreTrainedConfig:
    """Copy a model's configuration without its quantization."""
    config = copy.deepcopy(base.config)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        config.__dict__.pop(name, None)
    return config


def as_llama(
    model: ModelConfig,
    config: OpenLlamaConfig,
    tensors: Mapping[str, Stored],
    dtype: torch.dtype,
    folder: Path,
) -> dict[str, Stored]:
    """Write config.json of the LLaMA that the base came as, and return its tensors.

    The base's own config.json is kept, apart from what the merge changes; a GGUF file, Meta's files and a
    LLaMA that was exported from an Open-Llama have a new one.
    """
    llama_tensors, record = fold(config, tensors)
    base_file = description_file(locate(model.path, model.revision))
    stored = read_json_object(base_file) if base_file.name == "config.json" else {}
    if stored.get("model_type") in RELATIVES and RECORD not in stored:
        has_own_head = HEAD in llama_tensors
        write_json(folder / "config.json", _changed(stored, model, config, dtype, has_own_head))
        return llama_tensors
    described = llama_config(config, record, HEAD in llama_tensors)
    described.architectures, described.dtype = [class_name(described.model_type, model.task)], dtype
    with quiet_transformers():
        write_config(described, folder)
    return llama_tensors


def _changed(
    stored: dict[str, Any], model: ModelConfig, config: OpenLlamaConfig, dtype: torch.dtype, has_head: bool
) -> dict[str, Any]:
    """Return the base's config.json with what the merge changes."""
    values = {name: value for name, value in stored.items() if name not in NOT_KEPT}
    for name in DTYPE_FIELDS:
        if name in values or name == DTYPE_FIELDS[0]:
            values[name] = dtype_name(dtype)
    values["architectures"] = [class_name(stored["model_type"], model.task)]
    if values.get("tie_word_embeddings") and has_head:
        values["tie_word_embeddings"] = False
    if model.task is Task.sequence_classification:
        described = config.to_dict()
        values.pop("num_labels", None)  # the number of names in id2label
        values |= {name: described[name] for name in CLASSIFIER_FIELDS if described.get(name) is not None}
    return values
