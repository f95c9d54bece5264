"""Computes the logits of all models of a merge on the probe texts, with one layer in memory at a time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from peft import PeftModel, set_peft_model_state_dict
from torch import Tensor
from transformers import PreTrainedModel

from workbench.config.model import Dtype, ModelConfig, Task
from workbench.errors import CheckpointError
from workbench.models.adapters import adapter_config, attach
from workbench.models.architecture import is_native
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD
from workbench.models.device import attention_name, torch_device
from workbench.models.dtypes import dtype_name
from workbench.models.loading import load_tokenizer, outline
from workbench.models.logit_comparison import Batch, logits, packed
from workbench.models.merging.job import Logits, Made, MergeJob
from workbench.models.merging.layered_model import (
    Read,
    allocate_others,
    filled_when_called,
    restore_buffers,
    set_dtype,
)
from workbench.models.merging.tensor_plan import base_tensors
from workbench.models.merging.without_layers import without_layers
from workbench.models.ops.fused import enable_compiled, enable_fused
from workbench.weights.file_tensors import file_tensors
from workbench.weights.merge_plan import MergePlan, PlannedTensor
from workbench.weights.rows_as_trained import held_rows, read_held, set_rows

ROW_TOKENS = 512
"""Largest number of tokens in a row of packed probe texts; for each row, all layers are read again."""
Keep = Callable[[str, Iterator[Tensor]], Logits]
"""Function that takes a model's description and blocks of its logits, stores the logits and returns them."""


def rounded_dtypes(job: MergeJob) -> list[torch.dtype]:
    """Return the dtypes to which the proof rounds the float32 sum of base and adapter, without duplicates.

    The logits of the sum are computed in each of them. float32 is first, then the saved dtype and the adapter
    model's.
    """
    return list(dict.fromkeys([torch.float32, job.dtype, job.adapter_dtype]))


def num_models(job: MergeJob) -> int:
    """Return how often `probe` computes the logits of all texts, which is once for each model and dtype."""
    not_float32 = [dtype for dtype in (job.base_dtype, job.dtype) if dtype != torch.float32]
    return 3 + len(rounded_dtypes(job)) + len(not_float32)


def probe(job: MergeJob, plan: MergePlan, folder: Path, keep: Keep) -> Made:
    """Compute the logits of all models that the proof compares; the result has no signals of the weights.

    Args:
        job: The merge; `batches` are its probe texts.
        plan: The plan that the merged model was written by.
        folder: Folder of the merged model, with weights and config.json.
        keep: Stores the logits of one model, in memory or in files.

    Raises:
        CheckpointError: A weight in the folder isn't that of the float32 sum, rounded once.
        NotStreamable: The weights of the model can't be read layer by layer.
        DeviceError: `model.device` is CUDA, which this machine lacks.
    """
    job = replace(job, batches=_batches(job))
    made = Made(device=torch_device(job.model.device))
    section = replace(job.model, path=str(folder), dtype=Dtype.auto, revision=None, tokenizer=None)
    stored = {name: PlannedTensor(source=source) for name, source in base_tensors(section).items()}
    written = replace(plan, tensors=stored, base_dtype=plan.dtype)
    weights = _Weights(plan, written, tied_weights(_empty(job, torch.float32)))
    if job.base_dtype != torch.float32:
        with _adapter_model(job, weights.read_base, job.base_dtype) as model:
            made.adapter = keep("the adapter model", logits(model, job.batches, made.device))
    with _adapter_model(job, weights.read_base, torch.float32) as model:
        made.unmerged = keep("base + adapter in float32", logits(model, job.batches, made.device))
        with without_layers(model):
            made.base = keep("the base in float32", logits(model, job.batches, made.device))
    reads = {job.dtype: weights.read_written, torch.float32: weights.read_sum}
    for dtype in rounded_dtypes(job):  # float32 first, by which the folder is checked
        plain = _empty(job, dtype)
        with filled_when_called(plain, reads.get(dtype, weights.read_rounded), made.device):
            made.rounded[dtype] = keep(
                f"their sum in {dtype_name(dtype)}", logits(plain, job.batches, made.device)
            )
    made.total = made.rounded[torch.float32]
    made.merged = keep("the folder in float32", _folder_logits(job, written, section, torch.float32))
    made.reloaded = made.merged
    if job.dtype != torch.float32:
        made.reloaded = keep("the folder read back", _folder_logits(job, written, section, job.dtype))
    return made


def _batches(job: MergeJob) -> list[Batch]:
    """Return the probe texts, packed into rows without padding if the model supports packed texts."""
    is_packable = not is_native(job.model) and job.model.task is Task.causal_lm
    return packed(job.batches, ROW_TOKENS) if is_packable else job.batches


def _folder_logits(
    job: MergeJob, written: MergePlan, section: ModelConfig, dtype: torch.dtype
) -> Iterator[Tensor]:
    """Yield the logits of the merged model that `section` names, computed in `dtype`."""
    model, device = _empty(job, dtype, section), torch_device(job.model.device)
    weights = _Weights(written, written, tied_weights(model))
    with filled_when_called(model, weights.read_written, device):
        yield from logits(model, job.batches, device)


class _Weights:
    """Reads weights of the base and of the merged model by their names."""

    def __init__(self, plan: MergePlan, written: MergePlan, tied: Mapping[str, str]) -> None:
        """Take the plan of the merge, one of its written tensors, and the names of shared weights."""
        self.plan, self.written, self.tied = plan, written, tied
        self.adapter = file_tensors([plan.adapter])

    def read_base(self, name: str, values: Tensor) -> None:
        """Write a base weight as in training (rounded, quantized) into `values`."""
        read_held(_of(self.plan.tensors, name, self.tied), self.plan, values)

    def read_written(self, name: str, values: Tensor) -> None:
        """Write a weight of the merged model's folder into `values`."""
        read_held(_of(self.written.tensors, name, self.tied), self.written, values)

    def read_rounded(self, name: str, values: Tensor) -> None:
        """Write a merged weight into `values`: computed in float32, rounded once to their dtype."""
        for first, rows in self._sums(name):
            set_rows(values, first, rows)

    def read_sum(self, name: str, values: Tensor) -> None:
        """Write a merged weight into `values`, in float32, and check that the folder has it rounded once.

        Raises:
            CheckpointError: It doesn't.
        """
        source = _of(self.written.tensors, name, self.tied).source
        for first, rows in self._sums(name):
            set_rows(values, first, rows)
            stored = source.rows(first, first + len(rows)) if source.shape else source[...].view(1)
            rounded = rows.to(self.plan.dtype)
            is_same_dtype = stored.dtype == rounded.dtype
            if not is_same_dtype or not torch.equal(stored.view(torch.uint8), rounded.view(torch.uint8)):
                raise CheckpointError(
                    f"merge: the folder read back differs from the sum of base and adapter in {name}, so "
                    "nothing is published"
                )

    def _sums(self, name: str) -> Iterator[tuple[int, Tensor]]:
        """Yield blocks of a merged weight's rows in float32, with the number of the first row of each."""
        tensor = _of(self.plan.tensors, name, self.tied)
        update = tensor.update.read(self.adapter) if tensor.update is not None else None
        for first, rows in held_rows(tensor, self.plan):
            yield first, rows if update is None else update.changed(rows, first).rows


@contextmanager
def _adapter_model(job: MergeJob, read: Read, dtype: torch.dtype) -> Iterator[PeftModel]:
    """Yield the base with the adapter; layers of the base get weights in `dtype` when they are called."""
    weights = adapter_config.read_weights(job.adapter_path)
    empty = _empty(job, dtype)
    names = empty.state_dict().keys()
    model = attach.insert(empty, job.adapter_path, weights)
    allocate_others(attach.base_model(model), names)
    set_peft_model_state_dict(model, weights)
    model.eval()
    with filled_when_called(attach.base_model(model), read, torch_device(job.model.device)):
        yield model


def _empty(job: MergeJob, dtype: torch.dtype, section: ModelConfig | None = None) -> PreTrainedModel:
    """Return a model without weights, but with buffers, dtype, attention and padding token as if loaded.

    Args:
        job: The merge.
        dtype: Dtype to compute in.
        section: The section `model` for the merged folder; None: the base's.
    """
    model, num_labels = job.model, adapter_config.num_labels(job.adapter_path)
    empty = outline(model, num_labels) if section is None else outline(section)
    device = torch_device(model.device)
    restore_buffers(empty, device)
    set_dtype(empty, dtype)
    enable_fused(model.fused)
    enable_compiled(False)  # would take longer than the proof
    if attention := attention_name(model.attention, dtype, device):
        empty.set_attn_implementation(attention)
    if model.task is Task.sequence_classification:
        empty.config.get_text_config().pad_token_id = load_tokenizer(model).pad_token_id
    empty.train(False)
    return empty


Entry = TypeVar("Entry")


def tied_weights(model: PreTrainedModel) -> dict[str, str]:
    """Return name of a tied weight -> name of the weight that is stored in its place: head -> embedding.

    That pair is always there, also for a model whose head isn't tied.
    """
    return {HEAD: EMBEDDING, **(getattr(model, "all_tied_weights_keys", None) or {})}


def _of(tensors: Mapping[str, Entry], name: str, tied: Mapping[str, str]) -> Entry:
    """Return the entry of a weight in `tensors`, under its name or, if it is tied, under the stored name."""
    return tensors[name if name in tensors else tied.get(name, name)]
