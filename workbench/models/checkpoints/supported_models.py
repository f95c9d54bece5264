"""Refuses models that can't be trained or scored here, before anything large is read."""

from collections.abc import Mapping
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
from workbench.models.checkpoints.state_dict import tensor_names

QUANTIZED = ("quantization_config", "compression_config")
"""Fields of config.json that say how the weights are quantized."""
QUANTIZED_FILES = ("quantize_config.json", "quant_config.json")
"""Files with which early GPTQ and AWQ folders say it."""
BITSANDBYTES = "bitsandbytes"
HEADS = ("lm_head.weight", "embed_out.weight", "head.weight", "unembed.weight")
"""Ends of the names that a checkpoint may give the weight that predicts tokens."""
MAPPINGS: dict[Task, Any] = {
    Task.causal_lm: MODEL_FOR_CAUSAL_LM_MAPPING,
    Task.sequence_classification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
}
WORDS = {Task.causal_lm: "causal language model", Task.sequence_classification: "classifier"}


def check_not_quantized(described: Mapping[str, Any], file: Path) -> None:
    """Refuse weights that another tool has quantized; bitsandbytes' own format is let through.

    Args:
        described: the content of config.json.
        file: config.json itself.

    Raises:
        CheckpointError: names the quantization and the way out.
    """
    way_out = "take the unquantized model; quantization=nf4 or int8 quantizes it here"
    for key, method in quantizations(described).items():
        if method != BITSANDBYTES:
            raise CheckpointError(
                f"{file}: {key}: weights quantized by {method!r} are not supported ({way_out})"
            )
    if quantizations(described) or file.name != "config.json":
        return
    for name in QUANTIZED_FILES:
        if (file.parent / name).is_file():
            raise CheckpointError(
                f"{file.parent / name}: weights quantized by GPTQ or AWQ are not supported ({way_out})"
            )


def quantizations(described: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a config.json that say how its weights are quantized, with the method's name."""
    methods: dict[str, str] = {}
    for prefix, section in (("", described), ("text_config.", described.get("text_config"))):
        for name in QUANTIZED:
            settings = section.get(name) if isinstance(section, Mapping) else None
            if settings:
                methods[prefix + name] = _method(settings)
    return methods


def _method(settings: Any) -> str:
    if not isinstance(settings, Mapping):
        return str(settings)[:40]
    if any(settings.get(key) for key in ("load_in_4bit", "load_in_8bit")):
        return str(settings.get("quant_method", BITSANDBYTES))[:40]
    return str(settings.get("quant_method", "an unnamed method"))[:40]


def way_to_native(kind: str) -> str:
    """What to do with a `model_type` that isn't of LLaMA's architecture."""
    mappings = [MAPPINGS[task] for task in Task]
    if kind in CONFIG_MAPPING and any(CONFIG_MAPPING[kind] in mapping for mapping in mappings):
        return "model.architecture=native takes it as it is"
    return "a decoder-only language model"


def check_known(described: Mapping[str, Any], file: Path) -> None:
    """Refuse a `model_type` that transformers has no configuration for.

    Raises:
        CheckpointError: names it.
    """
    kind = described.get("model_type")
    if kind is not None and kind not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{file}: transformers {transformers_version} knows no model_type {str(kind)[:60]!r} "
            "(a later transformers may)"
        )


def check_kind(config: PreTrainedConfig, path: Path, task: Task) -> None:
    """Refuse a kind of model that has no class for the task, or one that doesn't predict the next token.

    Raises:
        CheckpointError: names the kind and the way out.
    """
    where = f"{path}: model_type {config.model_type!r}"
    if getattr(config, "is_encoder_decoder", False):
        raise CheckpointError(
            f"{where} is an encoder-decoder, which can't be trained or scored here (a decoder-only model)"
        )
    is_classified = type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    classifier = "model.task=sequence_classification takes it" if is_classified else "a decoder-only model"
    if type(config) not in MAPPINGS[task]:
        way_out = classifier if task is Task.causal_lm else "a text model such as LLaMA, Qwen or BERT"
        raise CheckpointError(f"{where}: transformers has no {WORDS[task]} of this type ({way_out})")
    if task is not Task.causal_lm:
        return
    is_masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING or isinstance(config, BertGenerationConfig)
    if is_masked and not getattr(config, "is_decoder", getattr(config, "causal", False)):
        raise CheckpointError(
            f"{where} is an encoder that also sees the tokens behind, so it can't predict them ({classifier})"
        )
    media = [name for name in type(config).sub_configs if name.startswith(("vision", "audio"))]
    if media and "text_config" not in type(config).sub_configs:
        kinds = " and ".join("images" if name.startswith("vision") else "sound" for name in media)
        raise CheckpointError(f"{where} is a model of {kinds}, not of text alone (a text model)")


def check_head(path: Path, files: list[Path], model: PreTrainedModel) -> None:
    """Refuse a causal model whose checkpoint lacks the head that predicts tokens, which would be random.

    Args:
        path: the folder.
        files: its weights.
        model: the model without weights.

    Raises:
        CheckpointError: there is no head, and none is tied to the embedding.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Module) or model.config.get_text_config().tie_word_embeddings:
        return
    name = next((f"{name}.weight" for name, module in model.named_modules() if module is head), "")
    ends = (*HEADS, name.rpartition("model.")[2]) if name else HEADS
    if not any(stored.endswith(ends) for file in files for stored in tensor_names(file)):
        made_as = ", ".join(model.config.architectures or ["an unknown class"])
        raise CheckpointError(
            f"{path}: no {name or HEADS[0]}, the head that predicts tokens (saved as {made_as}; "
            "a checkpoint with the head, or model.task=sequence_classification)"
        )
