"""Merges with the whole model in memory, by peft's own merge, which supports any adapter and any base."""

import copy
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from workbench.config.model import Task
from workbench.contexts import forked_random_state, quiet_transformers
from workbench.errors import CheckpointError, first_line
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.targets import shared_layers
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.loading import load_model
from workbench.models.logit_comparison import logits
from workbench.models.merging.description import as_llama, came_as_llama, unquantized_config
from workbench.models.merging.job import Made, MergeJob
from workbench.models.merging.layered_model import set_dtype
from workbench.models.merging.logit_proof import overflow
from workbench.models.merging.tensor_plan import untie
from workbench.models.merging.without_layers import without_layers
from workbench.models.quantization import dequantize_state_dict
from workbench.weights.shard_writer import ShardWriter
from workbench.weights.signal import measured


@dataclass(kw_only=True)
class _Base:
    """Base model: its dequantized weights, class, configuration and generation settings."""

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    generation_config: GenerationConfig | None
    weights: dict[str, Tensor]
    """Float32, on the CPU."""
    device: torch.device
    """Device of the loaded base; later, one with enough memory for the float32 model."""


def merge_whole(job: MergeJob, folder: Path, max_shard_bytes: int) -> Made:
    """Merge in memory, and write weights, config.json and generation settings to `folder`.

    Args:
        job: What to merge.
        folder: Existing folder.
        max_shard_bytes: Largest size of a weight file.

    Returns:
        The changes of the weights, and all logits that the proof compares but those of the written folder
        (`reloaded`).

    Raises:
        CheckpointError: Base and adapter don't fit, the adapter does nothing, or peft can't merge it.
        ConfigError: A weight overflows the saved dtype.
    """
    made = Made()
    base = _load_base(job, made)
    base.device = _device_with_room(base.weights, base.device)  # here, as the loaded models are freed now
    made.device = base.device
    model = _float32_sum(job, base, made)
    _measure(job, base.weights, model, made)
    base.weights = {}
    _round_and_save(job, model, made, folder, max_shard_bytes)
    return made


def _load_base(job: MergeJob, made: Made) -> _Base:
    """Load the base as for training, and return its dequantized weights.

    The adapter model's logits are stored in `made`.
    """
    with forked_random_state():
        torch.manual_seed(0)  # a new score head is random, and is replaced by the adapter's
        base = load_model(job.model, job.quantization, adapter_config.num_labels(job.adapter_path))
    end_at(base, adapter_config.end_tokens(job.adapter_path))
    weights = dequantize_state_dict(base)
    shared = _shared_weights(base)
    adapter_model = attach.load(base, job.adapter_path)
    attach.check_did_something(adapter_model)
    if not job.depends_on_batch:
        made.adapter = list(logits(adapter_model, job.batches))
    config = unquantized_config(base)
    if shared and _needs_own_head(adapter_model):
        first, second = shared
        weights[second] = weights[first].clone()
        untie(config)
    return _Base(
        model_class=type(base),
        config=config,
        generation_config=base.generation_config if base.can_generate() else None,
        weights=weights,
        device=base.device,
    )


def _shared_weights(model: PreTrainedModel) -> list[str]:
    """Return the names of embedding and head if they share one weight, the saved one first."""
    if not shared_layers(model):
        return []
    tables = [model.get_input_embeddings(), cast(Any, model).get_output_embeddings()]
    return [f"{name}.weight" for name, module in model.named_modules() if module in tables]


def _needs_own_head(model: PeftModel) -> bool:
    """Return whether the merged model needs an untied head.

    It does if the adapter changes head and embedding differently, which share a weight in the base.
    """
    base = attach.base_model(model)
    adapted = [
        module
        for module in (base.get_input_embeddings(), cast(Any, base).get_output_embeddings())
        if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper)
    ]
    trained = [
        cast(Any, module).modules_to_save["default"].weight
        for module in adapted
        if isinstance(module, ModulesToSaveWrapper)
    ]
    if len(trained) == 2:
        return not torch.equal(*trained)
    return bool(adapted)


def _device_with_room(weights: dict[str, Tensor], device: torch.device) -> torch.device:
    """Return `device`, or the CPU if float32 weights and some activations don't fit on it."""
    if device.type != "cuda":
        return device
    gc.collect()  # peft's layers refer to each other
    torch.cuda.empty_cache()
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    return device if 1.3 * num_bytes < torch.cuda.mem_get_info(device)[0] else torch.device("cpu")


def _float32_sum(job: MergeJob, base: _Base, made: Made) -> PreTrainedModel:
    """Merge the adapter into the base in float32; store the logits before and after in `made`.

    Raises:
        CheckpointError: A weight of the sum overflows float32, or peft can't merge the adapter.
    """
    with quiet_transformers():
        float32_base: PreTrainedModel = base.model_class.from_pretrained(
            None, config=copy.deepcopy(base.config), state_dict=dict(base.weights), dtype=torch.float32
        )
    if base.generation_config is not None:
        float32_base.generation_config = base.generation_config
    cast(torch.nn.Module, float32_base).to(base.device)
    is_classifier = job.model.task is Task.sequence_classification
    if not is_classifier:  # before the adapter, which may change the base
        made.base = list(logits(float32_base, job.batches))
    adapter_model = attach.load(float32_base, job.adapter_path)
    if is_classifier:
        with without_layers(adapter_model):
            made.base = list(logits(adapter_model, job.batches))
    made.unmerged = list(logits(adapter_model, job.batches))
    try:
        merged = merge_layers(adapter_model)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(_unmergeable(job, error)) from error
    made.total = list(logits(merged, job.batches))
    return merged


def merge_layers(adapter_model: PeftModel) -> PreTrainedModel:
    """Merge the adapter into its base by peft, and return the base without any layer of peft.

    The base is changed in place. Modules that were trained as a whole replace their wrappers, which peft
    leaves after LN tuning.

    Raises:
        ValueError, RuntimeError, NotImplementedError: peft can't merge the adapter, or a sum isn't finite.
    """
    merged = cast(PreTrainedModel, adapter_model.merge_and_unload(safe_merge=True))
    for name, module in list(merged.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            merged.set_submodule(name, cast(Any, module).modules_to_save["default"])
    return merged


def _unmergeable(job: MergeJob, error: Exception) -> str:
    """Return the message about an adapter that peft refuses to merge."""
    reason = first_line(error)
    if "lora_bias" in reason:
        reason = "lora_bias=True, and the base's layers have no bias to add it to"
        return f"{job.adapter_path}: can't be merged, {reason} (use it as an adapter)"
    return f"{job.adapter_path}: can't be merged, {reason} (a weight or its alpha is too large)"


def _measure(job: MergeJob, before: dict[str, Tensor], model: PreTrainedModel, made: Made) -> None:
    """Store in `made` how much of each weight's change is left after rounding to the saved dtype."""
    for name, parameter in model.named_parameters():
        total = parameter.detach().to("cpu")
        base = before.get(name)
        if base is None or base.shape != total.shape or torch.equal(base, total):
            continue
        made.signals[name] = measured(base, total - base, total.to(job.dtype))


def _round_and_save(
    job: MergeJob, model: PreTrainedModel, made: Made, folder: Path, max_shard_bytes: int
) -> None:
    """Round the sum and save it; store the logits in the saved dtype and in the adapter model's.

    Raises:
        ConfigError: A weight overflows the dtype.
    """
    made.rounded[torch.float32] = made.total
    set_dtype(model, job.dtype)
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise overflow(job.dtype)
    made.rounded[job.dtype] = list(logits(model, job.batches))
    _save(job, model, folder, max_shard_bytes)
    set_dtype(model, torch.float32)
    made.merged = list(logits(model, job.batches))
    if job.adapter_dtype not in made.rounded:
        set_dtype(model, job.adapter_dtype)
        made.rounded[job.adapter_dtype] = list(logits(model, job.batches))


def _save(job: MergeJob, model: PreTrainedModel, folder: Path, max_shard_bytes: int) -> None:
    """Write config.json, generation settings and weights, in the format that the base came in."""
    with quiet_transformers():
        if not came_as_llama(job.model):
            model.save_pretrained(folder, max_shard_size=max_shard_bytes)
            return
        if model.can_generate() and model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    config: Any = model.config
    tensors = as_llama(job.model, config, cast(Any, parameters), job.dtype, folder)
    layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    with ShardWriter(folder, layout, max_shard_bytes) as writer:
        for name in writer.names:
            writer.write(name, tensors[name][...])
