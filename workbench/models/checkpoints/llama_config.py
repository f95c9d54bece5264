"""Describes an Open-Llama without its switches as the LLaMA that computes the same."""

from pathlib import Path
from typing import Any

from transformers import LlamaConfig, PreTrainedConfig

from workbench.config.model import Task
from workbench.errors import CheckpointError
from workbench.models.checkpoints.stable_embedding import RECORD
from workbench.models.checkpoints.supported_models import MAPPINGS
from workbench.models.open_llama import OpenLlamaConfig
from workbench.models.open_llama.relatives import OPTIONAL_FIELDS, RELATIVES, SHARED_FIELDS
from workbench.run_dir import write_json


def class_name(model_type: str, task: Task) -> str:
    """Return the name of transformers' class of LLaMA or a relative for the task."""
    return str(MAPPINGS[task][RELATIVES[model_type]].__name__)


def llama_config(config: OpenLlamaConfig, record: dict[str, Any], has_head: bool) -> LlamaConfig:
    """Return the LLaMA configuration of a folded Open-Llama, with the record for restoring it if it has one.

    Args:
        config: Configuration of the Open-Llama.
        record: Record from `fold`.
        has_head: Whether the folded tensors have a head of their own.

    Raises:
        CheckpointError: LLaMA doesn't have a field that is set.
    """
    if names := [name for name in OPTIONAL_FIELDS if getattr(config, name)]:
        raise CheckpointError(f"export.format: LLaMA has no {names[0]} (export.format=open-llama has it)")
    fields: dict[str, Any] = {name: getattr(config, name) for name in SHARED_FIELDS}
    tied = config.ties_embeddings and not has_head and not config.use_stable_embedding
    fields["tie_word_embeddings"], fields["head_dim"] = tied, config.head_dim
    fields["attention_dropout"] = config.attention_dropout_prob
    default_record = {
        "use_stable_embedding": False,
        "shared_input_output_embedding": False,
        "tie_word_embeddings": tied,
        "hidden_dropout_prob": 0.0,
        "attention_dropout_prob": config.attention_dropout_prob,
        "use_memory_efficient_attention": True,
    }
    if record != default_record:
        fields[RECORD] = record
    return LlamaConfig(**fields)


def write_config(config: PreTrainedConfig, folder: Path) -> None:
    """Write config.json, with rotary parameters also under the keys of transformers before version 5."""
    config.save_pretrained(folder)
    if not isinstance(config, LlamaConfig):
        return
    written = config.to_diff_dict() | {"model_type": config.model_type}
    rope = dict(written["rope_parameters"])
    written["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        written["rope_scaling"] = {"type": rope["rope_type"], **rope}
    write_json(folder / "config.json", dict(sorted(written.items())))
