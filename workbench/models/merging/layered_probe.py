"""Computes the logits of all models of a merge on the probe texts, with one layer in memory at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from peft import PeftModel, set_peft_model_state_dict
from torch import Tensor
from transformers import PreTrainedModel

from workbench.config.model import Dtype, ModelConfig, Task
from workbench.models.adapters import adapter_config, attach
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD
from workbench.models.device import attention_name, torch_device
from workbench.models.dtypes import dtype_name
from workbench.models.loading import load_tokenizer, outline
from workbench.models.logit_comparison import logits
from workbench.models.merging.job import Made, MergeJob
from workbench.models.merging.layered_model import (
    Read,
    allocate_others,
    as_dtype,
    filled_when_called,
    restore_buffers,
)
from workbench.models.merging.tensor_plan import base_tensors
from workbench.models.merging.without_layers import without_layers
from workbench.models.ops.fused import enable_fused
from workbench.weights.as_trained import as_trained
from workbench.weights.file_tensors import file_tensors
from workbench.weights.merge_plan import MergePlan, PlannedTensor

Keep = Callable[[str, Iterator[Tensor]], Sequence[Tensor]]
"""Stores the logits of one model under a name, and returns them."""


def in_memory(name: str, rows: Iterator[Tensor]) -> Sequence[Tensor]:
    """Keep logits in memory."""
    return list(rows)


def probe(job: MergeJob, plan: MergePlan, folder: Path, keep: Keep = in_memory) -> Made:
    """Compute all logits of the proof.

    Args:
        job: The merge; `batches` are its probe texts.
        plan: Its tensors.
        folder: The merged model.
        keep: Stores the logits of one model.

    Raises:
        NotStreamable: The model can't be filled layer by layer.
    """
    made = Made(device=torch_device(job.model.device))
    weights = _Weights(plan, tied_weights(_empty(job, torch.float32)))
    with _adapter_model(job, weights.base, job.base_dtype) as model:
        made.adapter = keep("adapter", logits(model, job.batches, made.device))
    with _adapter_model(job, weights.base, torch.float32) as model:
        made.unmerged = keep("unmerged", logits(model, job.batches, made.device))
        with without_layers(model):
            made.base = keep("base", logits(model, job.batches, made.device))
    for dtype in dict.fromkeys([torch.float32, job.dtype, job.adapter_dtype]):
        plain = _empty(job, dtype)
        with filled_when_called(plain, weights.merged(dtype), made.device):
            made.rounded[dtype] = keep(
                f"rounded-{dtype_name(dtype)}", logits(plain, job.batches, made.device)
            )
    made.total = made.rounded[torch.float32]
    section = replace(job.model, path=str(folder), dtype=Dtype.auto, revision=None, tokenizer=None)
    made.reloaded = keep("reloaded", _folder_logits(job, section, job.dtype))
    made.merged = keep("merged", _folder_logits(job, section, torch.float32))
    return made


def _folder_logits(job: MergeJob, section: ModelConfig, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield the logits of a written model, computed in `dtype`."""
    stored, model = base_tensors(section), _empty(job, dtype, section)
    device = torch_device(job.model.device)
    tied = tied_weights(model)
    with filled_when_called(model, lambda name: _of(stored, name, tied)[...].to(dtype), device):
        yield from logits(model, job.batches, device)


class _Weights:
    """Returns weights of base and merged model by their names."""

    def __init__(self, plan: MergePlan, tied: Mapping[str, str]) -> None:
        self.plan, self.adapter, self.tied = plan, file_tensors([plan.adapter]), tied

    def base(self, dtype: torch.dtype) -> Read:
        """Return a function that reads a weight as the training held it."""
        return lambda name: self._held(_of(self.plan.tensors, name, self.tied)).to(dtype)

    def merged(self, dtype: torch.dtype) -> Read:
        """Return a function that computes a merged weight in float32, rounded once to `dtype`."""

        def read(name: str) -> Tensor:
            tensor = _of(self.plan.tensors, name, self.tied)
            base = self._held(tensor)
            if tensor.update is None:
                return base.to(dtype)
            return tensor.update.read(self.adapter).changed(base).rows.to(dtype)

        return read

    def _held(self, tensor: PlannedTensor) -> Tensor:
        plan = self.plan
        return as_trained(tensor.source[...], plan.base_dtype, tensor.quantized, plan.device)


@contextmanager
def _adapter_model(
    job: MergeJob, base: Callable[[torch.dtype], Read], dtype: torch.dtype
) -> Iterator[PeftModel]:
    """Yield base and adapter, whose base is filled layer by layer with weights in `dtype`."""
    weights = adapter_config.read_weights(job.adapter_path)
    empty = _empty(job, dtype)
    names = empty.state_dict().keys()
    model = attach.insert(empty, job.adapter_path, weights)
    allocate_others(attach.base_model(model), names)
    set_peft_model_state_dict(model, weights)
    model.eval()
    with filled_when_called(attach.base_model(model), base(dtype), torch_device(job.model.device)):
        yield model


def _empty(job: MergeJob, dtype: torch.dtype, section: ModelConfig | None = None) -> PreTrainedModel:
    """Return a model without weights, with what loading sets: buffers, dtype, attention, padding token.

    Args:
        job: The merge.
        dtype: Dtype to compute in.
        section: The merged model; None: the base.
    """
    model, num_labels = job.model, adapter_config.num_labels(job.adapter_path)
    empty = outline(model, num_labels) if section is None else outline(section)
    device = torch_device(model.device)
    restore_buffers(empty, device)
    as_dtype(empty, dtype)
    enable_fused(model.fused)
    if attention := attention_name(model.attention, dtype, device):
        empty.set_attn_implementation(attention)
    if model.task is Task.sequence_classification:
        empty.config.get_text_config().pad_token_id = load_tokenizer(model).pad_token_id
    empty.train(False)
    return empty


Entry = TypeVar("Entry")


def tied_weights(model: PreTrainedModel) -> dict[str, str]:
    """Return the names of shared weights, with the name under which a folder has them."""
    return {HEAD: EMBEDDING, **(getattr(model, "all_tied_weights_keys", None) or {})}


def _of(tensors: Mapping[str, Entry], name: str, tied: Mapping[str, str]) -> Entry:
    """Return the entry of a weight; that of a shared one is the other's."""
    return tensors[name if name in tensors else tied.get(name, name)]
