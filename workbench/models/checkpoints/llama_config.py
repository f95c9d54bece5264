"""Writes config.json of the LLaMA, or relative of LLaMA, that computes the same as an Open-Llama.

The Open-Llama has been folded (see stable_embedding.py), so that it uses none of its own features.
"""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from workbench.config.model import ModelConfig, Task
from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError
from workbench.models.checkpoints.checkpoint import description_file
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.ready_quantized import FIELDS as QUANTIZATION_FIELDS
from workbench.models.checkpoints.stable_embedding import RECORD
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.checkpoints.supported_models import MAPPINGS, TASK_NAMES
from workbench.models.dtypes import dtype_name
from workbench.models.open_llama import OpenLlamaConfig
from workbench.models.open_llama.relatives import NAMES, RELATIVES, relative_config
from workbench.run_dir import write_json

CLASSIFIER_FIELDS = ("pad_token_id", "id2label", "label2id", "problem_type")
"""Fields of config.json that training a classifier changes."""
NOT_KEPT = (*QUANTIZATION_FIELDS, "_name_or_path", "transformers_version", "auto_map")
DTYPE_FIELDS = ("dtype", "torch_dtype")
"""Names of the dtype in config.json: of transformers from version 5 on, and before."""


def class_name(model_type: str, task: Task) -> str:
    """Return the name of transformers' class for a model type and task, such as `LlamaForCausalLM`.

    `model_type` is LLaMA's or a relative's: a key of RELATIVES.

    Raises:
        CheckpointError: Transformers has no such class.
    """
    if RELATIVES[model_type] not in MAPPINGS[task]:
        name = f"{TASK_NAMES[task]} of {NAMES[model_type]}"
        raise CheckpointError(f"export.format: transformers has no {name} (open-llama)")
    return str(MAPPINGS[task][RELATIVES[model_type]].__name__)


def llama_config(config: OpenLlamaConfig, record: dict[str, Any], has_head: bool) -> PreTrainedConfig:
    """Return the configuration of LLaMA or a relative that computes the same as a folded Open-Llama.

    Args:
        config: Configuration of the Open-Llama.
        record: Record from `fold`; the result contains it unless all of its values are defaults.
        has_head: Whether the folded tensors have a head of their own.

    Raises:
        CheckpointError: Neither LLaMA nor a relative has all fields of the Open-Llama.
    """
    tied = config.ties_embeddings and not has_head and not config.use_stable_embedding
    default_record = {
        "use_stable_embedding": False,
        "shared_input_output_embedding": False,
        "tie_word_embeddings": tied,
        "hidden_dropout_prob": 0.0,
        "attention_dropout_prob": config.attention_dropout_prob,
        "use_memory_efficient_attention": True,
    }
    recorded = {} if record == default_record else {RECORD: record}
    try:
        return relative_config(config, tie_word_embeddings=tied, **recorded)
    except (ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"config.json: {reason} (export.format=open-llama has it)") from error


def write_llama_config(
    model: ModelConfig,
    config: OpenLlamaConfig,
    record: dict[str, Any],
    has_head: bool,
    dtype: torch.dtype,
    folder: Path,
) -> None:
    """Write config.json for a changed copy of the model at `model.path`, as a LLaMA or relative of LLaMA.

    It is the config.json of that model, with a few fields changed (dtype, class, tied head, label names). An
    Open-Llama, a LLaMA that was exported from one, a GGUF file, Meta's files and model types that
    transformers doesn't have get a new config.json, from `config`.

    Args:
        model: The section `model` of the configuration.
        config: Configuration of the Open-Llama.
        record: Record from `fold`.
        has_head: Whether the folded tensors have a head of their own.
        dtype: Dtype of the folded tensors.
        folder: Existing folder to write config.json to.

    Raises:
        CheckpointError: See `llama_config` and `class_name`.
        CheckpointError: The model's config.json can't be read.
        ConfigError: `model.path` is not given.
    """
    base_file = description_file(locate(model.path, model.revision))
    stored = read_json_object(base_file) if base_file.name == "config.json" else {}
    if RELATIVES.get(str(stored.get("model_type"))) in MAPPINGS[model.task] and RECORD not in stored:
        write_json(folder / "config.json", _changed(stored, model, config, dtype, has_head))
        return
    described = llama_config(config, record, has_head)
    described.architectures, described.dtype = [class_name(described.model_type, model.task)], dtype
    with quiet_transformers():
        write_config(described, folder)


def _changed(
    stored: dict[str, Any], model: ModelConfig, config: OpenLlamaConfig, dtype: torch.dtype, has_head: bool
) -> dict[str, Any]:
    """Return the base's config.json with the merged model's dtype, class, tied head and class names."""
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


def write_config(config: PreTrainedConfig, folder: Path) -> None:
    """Write any configuration as config.json to the existing `folder`.

    For LLaMA and its relatives (model types of RELATIVES), the keys by which transformers before version 5
    reads rotary parameters are added: `rope_theta` and, unless the type is `default`, `rope_scaling`.
    """
    config.save_pretrained(folder)
    if config.model_type not in RELATIVES:
        return
    written = config.to_diff_dict() | {"model_type": config.model_type}
    rope = dict(written["rope_parameters"])
    written["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        written["rope_scaling"] = {"type": rope["rope_type"], **rope}
    write_json(folder / "config.json", dict(sorted(written.items())))
