"""Merges in the memory of a few rows of a weight, and proves in that of a layer."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from workbench import errors
from workbench.config.model import Task
from workbench.contexts import quiet_transformers
from workbench.errors import DeviceError, WorkbenchError
from workbench.models.adapters import adapter_config
from workbench.models.checkpoints.generation_config import end_at, settle_generation
from workbench.models.checkpoints.hub import locate
from workbench.models.loading import load_tokenizer
from workbench.models.merging import probe_process
from workbench.models.merging.adapter_updates import NotStreamable
from workbench.models.merging.description import as_llama, came_as_llama
from workbench.models.merging.job import Made, MergeJob
from workbench.models.merging.layered_probe import probe
from workbench.models.merging.tensor_plan import PlannedMerge
from workbench.progress import Progress
from workbench.run_dir import write_json
from workbench.weights.merge_plan import MergePlan
from workbench.weights.merge_tensors import merge_tensors
from workbench.weights.signal import Signal

OWN_PROCESS_BYTES = 2**28
"""Size of the weights from which other processes merge and prove them, in as little memory as it takes."""


def merge_streamed(
    job: MergeJob, planned: PlannedMerge, folder: Path, max_shard_bytes: int, scratch: Path
) -> Made:
    """Write the merged weights and what describes them to `folder`, and compute the logits of the proof.

    Args:
        job: What to merge.
        planned: Its plan.
        folder: Existing folder.
        max_shard_bytes: Largest size of a weight file.
        scratch: Existing folder that other processes write to; the logits of a large model stay there.

    Raises:
        CheckpointError: A weight is not a number, or was not written as it should be.
        ConfigError: A weight overflows the dtype.
        NotStreamable: The model can't be proven layer by layer.
    """
    plan = planned.plan
    _write_description(job, planned, folder)
    if written_bytes(plan) < OWN_PROCESS_BYTES:
        with Progress("merge", len(plan.tensors), unit="tensors") as progress:
            signals = merge_tensors(plan, folder, max_shard_bytes, lambda name: progress.advance(1))
        made = probe(job, plan, folder) if job.batches else Made()
    else:
        signals = _merge_in_process(plan, folder, max_shard_bytes, scratch)
        made = _probe_in_process(job, plan, folder, scratch) if job.batches else Made()
    made.signals = {name: signal for name, signal in signals.items() if not is_new(plan, name)}
    return made


def written_bytes(plan: MergePlan) -> int:
    """Return the size of the merged weights."""
    count = sum(math.prod(tensor.source.shape) for tensor in plan.tensors.values())
    return count * plan.dtype.itemsize


def is_new(plan: MergePlan, name: str) -> bool:
    """Return whether a weight is the adapter's alone, such as a classification head."""
    return plan.tensors[name].source.file == plan.adapter


def _write_description(job: MergeJob, planned: PlannedMerge, folder: Path) -> None:
    """Write config.json and generation_config.json."""
    model: Any = planned.model
    config = model.config
    config.dtype = job.dtype
    if job.model.task is Task.sequence_classification:
        config.get_text_config().pad_token_id = load_tokenizer(job.model).pad_token_id
        names = adapter_config.label_names(job.adapter_path)
        if names is not None:
            config.id2label = dict(enumerate(names))
            config.label2id = {name: index for index, name in enumerate(names)}
    with quiet_transformers():
        generation = _generation_config(job, model)
        if generation is not None:
            generation.save_pretrained(folder)
        if came_as_llama(job.model):
            sources = {name: tensor.source for name, tensor in planned.plan.tensors.items()}
            as_llama(job.model, config, sources, job.dtype, folder)
            return
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)


def _generation_config(job: MergeJob, model: Any) -> GenerationConfig | None:
    """Return the base's generation settings, with the adapter's end tokens."""
    if not model.can_generate():
        return None
    path = locate(job.model.path, job.model.revision)
    if (path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(path)
        settle_generation(model.generation_config)
    end_at(model, adapter_config.end_tokens(job.adapter_path))
    generation: GenerationConfig = model.generation_config
    return generation


def _merge_in_process(
    plan: MergePlan, folder: Path, max_shard_bytes: int, scratch: Path
) -> dict[str, Signal]:
    """Merge in a process that imports torch and safetensors alone."""
    plan_file, result = scratch / "plan.json", scratch / "signals.json"
    write_json(plan_file, plan.as_json())
    words = [plan_file, folder, result, max_shard_bytes]
    with Progress("merge", len(plan.tensors), unit="tensors") as progress:
        _run(merge_tensors.__module__, words, progress)
    return {name: Signal(**values) for name, values in _result(result)["signals"].items()}


def _probe_in_process(job: MergeJob, plan: MergePlan, folder: Path, scratch: Path) -> Made:
    """Compute the logits of the proof in a process that holds one layer of one model."""
    job_file = scratch / "job.json"
    write_json(job_file, probe_process.as_json(job, plan))
    made = probe_process.made_in(scratch, job)
    with Progress("proof", len(made.rounded) + 5, unit="models") as progress:
        _run(probe_process.__name__, [job_file, folder, scratch], progress)
    _result(scratch / probe_process.RESULT)
    return probe_process.made_in(scratch, job)


def _run(module: str, words: Sequence[object], progress: Progress) -> None:
    """Run a module as a process that ends when this one does; each line that it prints is a step done.

    Raises:
        DeviceError: It was killed or crashed.
    """
    command = [sys.executable, "-m", module, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in process.stdout:
            progress.advance(1)
        if status := process.wait():
            raise DeviceError(
                f"merge: the process {module} ended with status {status} (is there enough memory?)"
            )


def _result(file: Path) -> dict[str, Any]:
    """Read how a process ended.

    Raises:
        WorkbenchError: What the process raised.
    """
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if "error" in result:
        kinds = {NotStreamable.__name__: NotStreamable}
        raise kinds.get(result["error"], getattr(errors, result["error"], WorkbenchError))(result["message"])
    return result
