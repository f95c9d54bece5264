"""Plans a merge: for each weight, where the base's is stored, its quantization and the adapter's update."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationMethod
from workbench.models import auto_model
from workbench.models.adapters import adapter_config
from workbench.models.adapters.targets import shared_layers
from workbench.models.architecture import is_native
from workbench.models.checkpoints import chatglm, meta_llama
from workbench.models.checkpoints.checkpoint import read_with
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.ready_quantized import read_unpacked, unpacked_format
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD
from workbench.models.checkpoints.state_dict import existing_files
from workbench.models.checkpoints.tensor_layouts import with_llama_names
from workbench.models.checkpoints.validation import FLOATS, fitted
from workbench.models.device import torch_device
from workbench.models.gguf import reader
from workbench.models.loading import CLASSES, outline
from workbench.models.merging.adapter_updates import NotStreamable, adapter_file, adapter_updates
from workbench.models.merging.job import MergeJob
from workbench.models.module_names import is_within
from workbench.models.quantization import UNQUANTIZED, compute_dtype
from workbench.weights.as_trained import Quantized
from workbench.weights.file_tensors import file_tensors
from workbench.weights.gguf_rows import GgufRows
from workbench.weights.merge_plan import MergePlan, PlannedTensor, ReplacedTensor, Source, UpdateTensors


class PlannedMerge(NamedTuple):
    """Result of `planned_merge`."""

    plan: MergePlan
    model: PreTrainedModel
    """The base with the adapter's layers on the meta device; its configuration is the merged model's."""


def planned_merge(job: MergeJob) -> PlannedMerge:
    """Plan a merge from the headers of the base's files; the adapter's values are read and checked.

    Raises:
        CheckpointError: Base or adapter is damaged, they don't fit, or the adapter does nothing.
        NotStreamable: Base or adapter must be merged with the whole model in memory.
        DeviceError: `model.device` is CUDA, which this machine lacks.
    """
    if job.depends_on_batch:
        raise NotStreamable("int8 on a GPU")
    sources = base_tensors(job.model)
    empty = outline(job.model, adapter_config.num_labels(job.adapter_path))
    shapes = {name: tuple(parameter.shape) for name, parameter in empty.named_parameters()}
    shared, quantized = shared_layers(empty), quantized_weights(empty, job)
    _check_stored(empty, sources)
    adapter_config.check_copies(
        job.adapter_path, lambda name: sources.get(EMBEDDING if shared and name == HEAD else name)
    )
    updates = adapter_updates(empty, job.adapter_path)
    if shared and EMBEDDING in sources and needs_own_head(updates, job):
        untie(empty.config)
        sources[HEAD], shapes[HEAD] = sources[EMBEDDING], shapes[EMBEDDING]
    _check_shared(updates, shared, shapes.keys() | {HEAD} if EMBEDDING in sources else shapes.keys())
    return PlannedMerge(
        MergePlan(
            tensors={
                name: _planned(name, shape, sources.get(name), updates.get(name), quantized.get(name), job)
                for name, shape in shapes.items()
            },
            adapter=adapter_file(job.adapter_path),
            base_dtype=job.base_dtype,
            dtype=job.dtype,
            device=torch_device(job.model.device),
        ),
        empty,
    )


def _check_shared(updates: Collection[str], shared: Collection[str], names: Collection[str]) -> None:
    """Raise NotStreamable if the adapter changes a tied weight that can't be merged tensor by tensor.

    Such a weight isn't in `names`, or the model doesn't name its embedding as LLaMA does.

    Args:
        updates: Names of the weights that the adapter changes.
        shared: Last parts of the names of two layers that share a weight, such as `lm_head`.
        names: Names of all weights.
    """
    for name in updates:
        is_shared = name.split(".")[-2] in shared and EMBEDDING not in names
        if name not in names or is_shared:
            raise NotStreamable(f"{name} shares its weight with another layer")


def _planned(
    name: str,
    shape: tuple[int, ...],
    source: Source | None,
    update: UpdateTensors | None,
    quantized: Quantized | None,
    job: MergeJob,
) -> PlannedTensor:
    """Return the plan of one tensor; a head that the base doesn't have comes from the adapter.

    Raises:
        NotStreamable: The base's files have no such tensor, or of another shape.
    """
    if source is None and isinstance(update, ReplacedTensor) and update.numbers is None:
        source = file_tensors([adapter_file(job.adapter_path)])[update.values]
    if source is None or tuple(source.shape) != shape or source.dtype not in FLOATS:
        raise NotStreamable(f"{name} is stored in another way")
    return PlannedTensor(source=source, quantized=quantized, update=update)


def base_tensors(model: ModelConfig) -> dict[str, Source]:
    """Return name in the model -> tensor in the files of the base, which is read when it is accessed.

    Only a tied head is read here, to compare it with the embedding.

    Raises:
        CheckpointError: A file is damaged, or doesn't fit its configuration.
        NotStreamable: The files aren't safetensors or GGUF, the model has code of its own, or a stable
            embedding was folded into the embedding.
        ConfigError: `model.path` is not given.
    """
    path = locate(model.path, model.revision)
    if path.is_file():
        if is_native(model):
            raise NotStreamable("a GGUF file in transformers' own architecture")
        return _gguf_tensors(path)
    files = [] if meta_llama.is_meta(path) else existing_files(path)
    if not files or any(file.suffix != ".safetensors" for file in files):
        raise NotStreamable("weights that are not safetensors")
    stored: Mapping[str, Any] = file_tensors(files)
    if not is_native(model):
        stored = fitted(read_with(path, stored), CLASSES[model.task])
    elif auto_model.runs_code(path):
        raise NotStreamable("modelling code of its own")
    elif (kind := unpacked_format(path, as_stored=True)) is not None:
        stored = read_unpacked(path, kind)
    if auto_model.is_chatglm(path):
        stored = with_llama_names(chatglm.MODEL_TYPE, auto_model.read_config(path), stored, path)
    if any(isinstance(tensor, torch.Tensor) for tensor in stored.values()):
        raise NotStreamable("a stable embedding that was folded")
    return dict(stored)


def _gguf_tensors(path: Path) -> dict[str, Source]:
    """Return the tensors of a GGUF file by name; their rows are read when they are accessed."""
    tensors: dict[str, Source] = {}
    for name, tensor in reader.read_tensors(path).items():
        entry = tensor.stored
        tensors[name] = GgufRows(
            file=path,
            name=str(entry.name),
            shape=tensor.shape,
            start=int(entry.data_offset),
            num_bytes=int(entry.n_bytes),
            quantization=int(entry.tensor_type),
            num_heads=tensor.num_heads,
        )
    return tensors


def _check_stored(empty: PreTrainedModel, sources: Mapping[str, Source]) -> None:
    """Raise NotStreamable if the base's files contain buffers that the model saves (the head is allowed)."""
    names = {name for name, _ in empty.named_parameters()}
    saved = {name for name in empty.state_dict() if name in sources and name not in names}
    if saved - {HEAD}:
        raise NotStreamable(f"{sorted(saved)[0]} is saved and not a parameter")


def quantized_weights(empty: PreTrainedModel, job: MergeJob) -> dict[str, Quantized]:
    """Return for each weight that the training quantizes: weight name -> quantization; {} if none is.

    Args:
        empty: The base without weights.
        job: Has the quantization of the training.

    Raises:
        NotStreamable: transformers chooses the layers to quantize, or 4-bit layers don't compute in the
            base's dtype.
    """
    quantization = job.quantization
    if quantization.method is QuantizationMethod.none:
        return {}
    dtype = job.base_dtype
    if quantization.method is not QuantizationMethod.int8:
        dtype = compute_dtype(quantization, job.base_dtype)
    if is_native(job.model) or dtype != job.base_dtype:
        raise NotStreamable("quantized layers that transformers chooses, or of another dtype")
    how = Quantized(
        method=quantization.method.value, double_quant=quantization.double_quant, compute_dtype=dtype
    )
    skipped = [*UNQUANTIZED, *quantization.skip_modules]
    return {
        f"{name}.weight": how
        for name, module in empty.named_modules()
        if isinstance(module, nn.Linear) and not is_within(name, skipped)
    }


def needs_own_head(updates: Mapping[str, UpdateTensors], job: MergeJob) -> bool:
    """Return whether the adapter changes head and embedding differently, so that the head must be untied.

    Args:
        updates: Weight name -> the adapter's update, of a base whose head and embedding share a weight.
        job: Has the adapter's path, whose trained head and embedding are compared if it has both.

    Raises:
        CheckpointError: The adapter's weight file is damaged.
    """
    embedding, head = updates.get(EMBEDDING), updates.get(HEAD)
    if isinstance(embedding, ReplacedTensor) and embedding.numbers is not None and head is None:
        return False  # rows of a tied embedding
    if isinstance(embedding, ReplacedTensor) and isinstance(head, ReplacedTensor):
        stored = file_tensors([adapter_file(job.adapter_path)])
        return not torch.equal(stored[embedding.values][...], stored[head.values][...])
    return embedding is not None or head is not None


def untie(config: PreTrainedConfig) -> None:
    """Change a configuration in place so that head and embedding aren't tied."""
    config.tie_word_embeddings = False
    if hasattr(config, "shared_input_output_embedding"):
        config.shared_input_output_embedding = False
