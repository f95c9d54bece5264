"""Describes a merged model: chooses its format by the base's, and writes config.json in it."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from workbench.config.model import ModelConfig, Task
from workbench.models.architecture import is_native
from workbench.models.checkpoints.checkpoint import description_file
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.llama_config import write_llama_config
from workbench.models.checkpoints.meta_llama import is_meta
from workbench.models.checkpoints.stable_embedding import HEAD, fold
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.checkpoints.supported_models import MAPPINGS
from workbench.models.open_llama import OpenLlamaConfig
from workbench.models.open_llama.relatives import RELATIVES
from workbench.models.stored import Stored


def came_as_llama(model: ModelConfig) -> bool:
    """Return whether a base that is computed as an Open-Llama has files of LLaMA or a relative of LLaMA.

    If so, the merged model is saved in that format, too. False for a base that transformers' own class
    computes, and for a classifier of a relative for which transformers has no classifier.

    Raises:
        ConfigError: `model.path` is not given.
        CheckpointError: There is no model, or its config.json is damaged.
    """
    if is_native(model):
        return False
    path = locate(model.path, model.revision)
    if path.is_file() or is_meta(path):
        return True
    model_type = read_json_object(description_file(path)).get("model_type")
    if model_type == OpenLlamaConfig.model_type:
        return False
    return model.task is Task.causal_lm or RELATIVES.get(str(model_type)) in MAPPINGS[model.task]


def unquantized_config(base: PreTrainedModel) -> PreTrainedConfig:
    """Return a deep copy of a model's configuration, without its quantization."""
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
    """Write config.json of the LLaMA or relative whose files the base has; return that model's tensors.

    Args:
        model: Section of the base.
        config: Configuration of the merged model as an Open-Llama.
        tensors: Its tensors by Open-Llama's names; those that are the same in LLaMA are returned as they are.
        dtype: Dtype for config.json.
        folder: Existing folder for config.json.

    Raises:
        CheckpointError: As in `write_llama_config`.
    """
    llama_tensors, record = fold(config, tensors)
    write_llama_config(model, config, record, HEAD in llama_tensors, dtype, folder)
    return llama_tensors
