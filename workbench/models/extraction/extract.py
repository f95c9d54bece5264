"""Extracts the LoRA closest to the difference of two checkpoints, and writes an adapter folder of peft."""

from collections.abc import Callable
from pathlib import Path

import torch
from peft import TaskType
from torch import Tensor

from workbench.config.inspection.extract import ExtractConfig
from workbench.errors import CheckpointError
from workbench.files import write_atomic
from workbench.folders import new_folder
from workbench.models.checkpoints.model_folder import ModelFolder, is_embedding, is_head
from workbench.models.diagnosis.described import TEMPLATE_FILE, Description
from workbench.models.extraction.decompose import decompose
from workbench.models.extraction.lora_folder import Extraction, write_lora
from workbench.models.stored import Stored

TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Model types whose linear layers store their weights transposed."""


def extract(
    base: ModelFolder,
    tuned: ModelFolder,
    config: ExtractConfig,
    folder: Path,
    base_name: str | None,
    progress: Callable[[], None] = lambda: None,
) -> Extraction:
    """Decompose the difference of each layer's matrix, write the adapter to `folder`, return its content.

    One weight of each checkpoint is in memory at a time. The tuned model's chat template is written, too.

    Args:
        base: The checkpoint that the adapter is for.
        tuned: The checkpoint that was tuned from it.
        config: Section `extract` of the configuration.
        folder: Adapter folder to write; an existing one is replaced as a whole, or after an error not at all.
        base_name: Name of the base for adapter_config.json; None: none is written.
        progress: Called after each tensor of the tuned checkpoint.

    Raises:
        CheckpointError: The checkpoints have different shapes or tensors, or no matrix differs.
    """
    check_comparable(base, tuned)
    extraction = Extraction()
    for name, stored in tuned.tensors.items():
        file_name = tuned.file_names[name]
        if name in base.tensors:
            _extract_one(name, base.tensors[name], stored, file_name, config, extraction)
        elif not (is_head(name) and tuned.is_tied):
            extraction.rest[file_name] = 1.0
        progress()
    if not extraction.layers:
        raise CheckpointError(
            f"{tuned.path}: no matrix of a layer differs from {base.path} (nothing to extract)"
        )
    extraction.whole_weights = _kept(extraction, base, tuned, config)
    with new_folder(folder) as temporary:
        task = TaskType.SEQ_CLS if tuned.is_classifier else TaskType.CAUSAL_LM
        write_lora(extraction, temporary, base_name, task)
        if (template := Description(tuned.path).template) is not None:
            write_atomic(temporary / TEMPLATE_FILE, template)
    return extraction


def check_layers(base: ModelFolder) -> None:
    """Raise CheckpointError if the base's model type stores the weights of its layers transposed (GPT-2)."""
    if base.config.get("model_type") in TRANSPOSED:
        raise CheckpointError(
            f"{base.path}: layers of {base.config['model_type']} have transposed weights (Conv1D), which "
            "peft's LoRA of a linear layer doesn't fit"
        )


def check_comparable(base: ModelFolder, tuned: ModelFolder) -> None:
    """Check that the tuned checkpoint has all tensors of the base, except a head, in the same shapes.

    Raises:
        CheckpointError: A tensor is missing, quantized or of another shape, or layers are transposed.
    """
    check_layers(base)
    for name, stored in base.tensors.items():
        other = tuned.tensors.get(name)
        if other is None and not is_head(name):
            raise CheckpointError(f"{tuned.path}: {name} is missing (is it a model tuned from {base.path}?)")
        if other is not None and tuple(other.shape) != tuple(stored.shape):
            raise CheckpointError(
                f"{tuned.path}: {name} is {list(other.shape)}, in the base {list(stored.shape)} (is it "
                "another model? If only the embedding differs, extend the base's vocabulary first)"
            )
        if other is not None and not other.dtype.is_floating_point:
            raise CheckpointError(f"{tuned.path}: {name} is quantized (take the unquantized checkpoint)")


def _extract_one(
    name: str,
    base: Stored,
    tuned: Stored,
    file_name: str,
    config: ExtractConfig,
    extraction: Extraction,
) -> None:
    """Add the LoRA of one tensor to `extraction`, or record the tensor as equal or not representable."""
    before, after = base[...], tuned[...]
    if torch.equal(before.to(after.dtype), after):
        extraction.num_equal += 1
        return
    if _is_layer(name, tuned):
        layer = decompose(file_name.removesuffix(".weight"), before, after, config)
        if layer is not None:
            extraction.layers.append(layer)
        return
    extraction.rest[file_name] = float((after.float() - before.float()).norm() / before.float().norm())


def _kept(
    extraction: Extraction, base: ModelFolder, tuned: ModelFolder, config: ExtractConfig
) -> dict[str, Tensor]:
    """Return the weights to save whole: changed modules (if `keep_rest`), and a head that the base lacks."""
    short = {file_name: name for name, file_name in tuned.file_names.items()}
    layers = {name.rpartition(".")[0] for name, stored in tuned.tensors.items() if _is_layer(name, stored)}
    modules = set()
    for file_name in extraction.rest:
        name = short[file_name]
        is_shared = tuned.is_tied and (is_embedding(name) or is_head(name))
        is_new_head = is_head(name) and name not in base.tensors
        if (config.keep_rest or is_new_head) and not is_shared and name.rpartition(".")[0] not in layers:
            modules.add(file_name.rpartition(".")[0])
    return {
        file_name: tuned.tensors[name][...]
        for file_name, name in short.items()
        if file_name.rpartition(".")[0] in modules
    }


def _is_layer(name: str, stored: Stored) -> bool:
    """Return whether a tensor is the matrix of a layer, not of an embedding or a head."""
    is_matrix = len(stored.shape) == 2 and name.endswith(".weight")
    return is_matrix and not is_embedding(name) and not is_head(name)
