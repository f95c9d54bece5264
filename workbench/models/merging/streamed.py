"""Merges with a few rows of a weight in memory, and computes the proof's logits with one layer in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import GenerationConfig

from workbench.config.model import Task
from workbench.contexts import quiet_transformers
from workbench.models.adapters import adapter_config
from workbench.models.checkpoints.generation_config import end_at, settle_generation
from workbench.models.checkpoints.hub import locate
from workbench.models.loading import load_tokenizer
from workbench.models.merging.description import as_llama, came_as_llama
from workbench.models.merging.job import Logits, Made, MergeJob
from workbench.models.merging.layered_probe import num_models, probe
from workbench.models.merging.logit_files import in_files
from workbench.models.merging.tensor_plan import PlannedMerge
from workbench.progress import Progress
from workbench.weights.file_tensors import FileTensor
from workbench.weights.merge_plan import MergePlan
from workbench.weights.merge_tensors import merge_tensors


def merge_streamed(
    job: MergeJob, planned: PlannedMerge, folder: Path, max_shard_bytes: int, scratch: Path
) -> Made:
    """Write merged weights, config.json and generation settings; compute the logits that the proof compares.

    Args:
        job: What to merge; without probe texts no logits are computed.
        planned: Its plan.
        folder: Existing folder for the merged model.
        max_shard_bytes: Largest size of a weight file.
        scratch: Existing folder for the logits, which the result reads from there.

    Raises:
        CheckpointError: A merged weight is NaN or infinite, or was not written as computed.
        ConfigError: A weight overflows the saved dtype.
        NotStreamable: The weights of the model can't be read layer by layer; files are in `folder` already.
    """
    plan = planned.plan
    _write_description(job, planned, folder)
    with Progress("merge", len(plan.tensors), unit="tensors") as progress:
        signals = merge_tensors(plan, folder, max_shard_bytes, lambda name: progress.advance(1))
    made = _probed(job, plan, folder, scratch) if job.batches else Made()
    made.signals = {name: signal for name, signal in signals.items() if not is_new(plan, name)}
    return made


def _probed(job: MergeJob, plan: MergePlan, folder: Path, scratch: Path) -> Made:
    """Compute the logits of the proof, which stay in files: a large vocabulary's don't fit in memory."""
    with Progress("proof", num_models(job), unit="models") as progress:

        def keep(model: str, rows: Iterator[Tensor]) -> Logits:
            progress.rename(f"proof: logits of {model}")
            logits = in_files(scratch, f"model-{progress.done}", rows)
            progress.advance(1)
            return logits

        return probe(job, plan, folder, keep)


def is_new(plan: MergePlan, name: str) -> bool:
    """Return whether only the adapter has the weight, not the base: that of a classification head."""
    source = plan.tensors[name].source
    return isinstance(source, FileTensor) and source.file == plan.adapter


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
    """Return the base's generation settings with the adapter's end tokens; None if it can't generate."""
    if not model.can_generate():
        return None
    path = locate(job.model.path, job.model.revision)
    if (path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(path)
        settle_generation(model.generation_config)
    end_at(model, adapter_config.end_tokens(job.adapter_path))
    generation: GenerationConfig = model.generation_config
    return generation
