"""Merges an adapter into its base model, and proves the merged model before publishing it.

The base's weights are those of the training (rounded, quantized, dequantized); the adapter is added in
float32, and the sum is rounded once, tensor by tensor if possible. Three comparisons of logits on probe texts
must succeed, within the measured rounding error: the float32 sum with base + adapter in float32, the folder
read back with the model that was saved, and the folder read back with the adapter model as trained. How much
of the adapter's effect rounding leaves is measured, too; a merge that loses too much is refused.
"""

import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.config.merge import MergeConfig
from workbench.config.model import Device, Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.files import is_hidden
from workbench.models.adapters import adapter_config, provenance
from workbench.models.adapters.targets import check_base
from workbench.models.architecture import unpacked_method
from workbench.models.checkpoints.hub import locate
from workbench.models.dtypes import chosen_dtype, dtype_name
from workbench.models.loading import load_model, load_tokenizer, read_config
from workbench.models.logit_comparison import Batch, Check, encode, logits
from workbench.models.merging.adapter_updates import NotStreamable
from workbench.models.merging.effect import ProbeEffect, judge
from workbench.models.merging.job import Made, MergeJob
from workbench.models.merging.logit_proof import Proof, prove
from workbench.models.merging.streamed import merge_streamed
from workbench.models.merging.tensor_plan import planned_merge
from workbench.models.merging.whole_model import merge_whole
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.run_dir import file_fingerprint, new_folder, write_json
from workbench.weights.shard_writer import MAX_SHARD_BYTES
from workbench.weights.signal import Signal

logger = logging.getLogger("workbench")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and 37 is larger than 12.",
    "人工智能正在改变我们的生活和工作方式。",
    "Question: What is the capital of France?\nAnswer: Paris",
    "问题：中国的首都是哪里？\n答案：北京",
]
"""Probe texts of a merge if there are no training rows."""

PROBE_TEXTS, PROBE_TOKENS, PROBE_BATCH = 16, 128, 4
"""Largest number of probe texts, largest number of tokens of each, and number of texts in a forward pass."""

SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class WeightSignal:
    """How much of a merge's intended change D rounding left in the change A that was written.

    Over the elements of one weight tensor, or of several.
    """

    changed: float
    """Share of the elements that differ from the base's."""
    projection: float
    """<A, D> / <D, D>: share of D that is in A."""
    cosine: float
    """Cosine of A and D."""
    error: float
    """|A - D| / |D|"""
    relative_size: float
    """|D| / |W|: size of the intended change relative to the base's weights."""

    @classmethod
    def of(cls, signal: Signal) -> "WeightSignal":
        """Compute the ratios from a signal's sums; a ratio to zero is NaN (`relative_size`: infinite)."""
        return cls(
            changed=signal.changed_share,
            projection=signal.projection,
            cosine=signal.cosine,
            error=signal.error,
            relative_size=signal.relative_size,
        )


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """Report of a merge: the models, and the results of comparing their logits and weights.

    All that follows from logits is None with `merge.probe=false`.
    """

    schema_version: int
    summary: str
    """What the merged model keeps of the adapter's effect, in one sentence."""
    base_model: str | None
    """`model.path` of the base."""
    quantization: str
    """Method by which the training quantized the base; `none` without."""
    dtype: str
    """Dtype of the merged weights."""
    reference: str
    """Model that the folder is compared with: `adapter model` or `dequantized base + adapter`."""
    accepted: list[str]
    """Differences between this base and the adapter's own that `adapter.base=accept` allowed."""
    effect: ProbeEffect | None
    """Distances of base, adapter model and merged model on the probe texts."""
    weights: WeightSignal
    """Over all weights that the adapter changes."""
    modules: dict[str, WeightSignal]
    """Name of each of these weights -> the same for it alone."""
    logit_scale: float | None
    """Largest absolute logit of the float32 sum."""
    merged: Check | None
    """Difference of the folder, read back, from the reference."""
    float32_sum: Check | None
    """Difference of the float32 sum from base + adapter in float32."""
    disk: Check | None
    """Difference of the folder, read back, from the model that was saved."""
    fingerprints: dict[str, str]
    """SHA-256 of the base's weights (`base`), of the adapter and of the merged folder (`merged`)."""


def merge(
    model: ModelConfig,
    adapter_path: str | Path,
    merge: MergeConfig,
    quantization: QuantizationConfig,
    folder: Path,
    probe: list[str],
    *,
    accepts_base: bool = False,
) -> MergeReport:
    """Merge an adapter into its base, prove the merged model, write it to `folder`, and return the report.

    Args:
        model: The base, as for training.
        adapter_path: Adapter folder or hub id.
        merge: The section `merge` of the configuration.
        quantization: As for training: the adapter has learned to compensate this quantization's errors.
        folder: Folder for weights in the base's format, configuration, tokenizer and `merged_from.json`; an
            existing folder is replaced when all comparisons have succeeded.
        probe: Texts to compare the models on; at most `PROBE_TEXTS` are used, none with `merge.probe=false`.
        accepts_base: Whether to merge into another base than the one that the adapter was trained on.

    Raises:
        ConfigError: The base has random weights, or a weight overflows `merge.dtype`.
        CheckpointError: The base is another one or contains the adapter already, the adapter does nothing,
            rounding erased it, or a comparison failed; nothing is written.
        DataError: All probe texts are blank.
    """
    check_base(model)
    adapter_config.check_mergeable(adapter_path)
    tokenizer = load_tokenizer(model)
    take_template(tokenizer, adapter_config.chat_template(adapter_path))
    job = _job(model, adapter_path, merge, quantization, tokenizer, probe)
    provenance.check_not_contained(model.path, adapter_path)
    accepted = provenance.check_base_of(
        adapter_path, model, quantization, dtype_name(job.base_dtype), accepts=accepts_base
    )
    base = provenance.trained_on(model, quantization, dtype_name(job.base_dtype))
    with new_folder(folder) as temporary, _scratch(temporary, folder.name) as scratch:
        made = _made(job, temporary, Path(scratch))
        tokenizer.save_pretrained(temporary)
        unpacked = unpacked_method(model, quantization)
        contents = provenance.merge_record(base, locate(model.path, model.revision), adapter_path, unpacked)
        write_json(temporary / provenance.MERGED_FROM, contents)
        if job.batches and not made.reloaded:
            made.reloaded = _reloaded_logits(_merged_section(job, temporary, made.device), job.batches)
        proven = _proven(job, made)
        prints = {"base": base.fingerprint, "adapter": adapter_config.fingerprint(adapter_path)}
        fingerprints = {**prints, "merged": file_fingerprint(temporary)}
    return MergeReport(
        schema_version=SCHEMA_VERSION,
        base_model=model.path,
        quantization=quantization.method.value,
        dtype=dtype_name(job.dtype),
        reference=job.reference,
        accepted=accepted,
        fingerprints=fingerprints,
        **proven,
    )


def _scratch(temporary: Path, name: str) -> TemporaryDirectory[str]:
    """Return a temporary folder for logits, beside the merged model's and with a hidden name."""
    return TemporaryDirectory(dir=temporary.parent, prefix=f".{name}.")


def _job(
    model: ModelConfig,
    adapter_path: str | Path,
    merge: MergeConfig,
    quantization: QuantizationConfig,
    tokenizer: PreTrainedTokenizerBase,
    probe: list[str],
) -> MergeJob:
    """Build the job: encode the probe texts, and choose the dtypes of the base and the merged model."""
    base_dtype = read_config(model)[1]
    return MergeJob(
        model=model,
        adapter_path=adapter_path,
        quantization=quantization,
        base_dtype=base_dtype,
        dtype=chosen_dtype(merge.dtype, base_dtype),
        batches=encode(tokenizer, probe[:PROBE_TEXTS], PROBE_TOKENS, PROBE_BATCH) if merge.probe else [],
    )


def _made(job: MergeJob, folder: Path, scratch: Path) -> Made:
    """Write the merged weights: tensor by tensor where that is possible, else with the model in memory."""
    try:
        return merge_streamed(job, planned_merge(job), folder, MAX_SHARD_BYTES, scratch)
    except NotStreamable as reason:
        logger.info("merge: the whole model is in memory: %s", reason)
    for file in folder.iterdir():
        if not is_hidden(file.relative_to(folder)):
            file.unlink()
    return merge_whole(job, folder, MAX_SHARD_BYTES)


def _proven(job: MergeJob, made: Made) -> dict[str, Any]:
    """Compare the models' logits, judge the merge, and return the report's fields with the results.

    Raises:
        CheckpointError: A comparison failed, the adapter does nothing, or rounding erased it.
    """
    names = [field.name for field in fields(Proof)]
    proof = vars(prove(job, made)) if job.batches else dict.fromkeys(names)
    total = made.all_signals()
    return {
        "summary": judge(proof["effect"], total, dtype_name(job.dtype)),
        "weights": WeightSignal.of(total),
        "modules": {name: WeightSignal.of(signal) for name, signal in made.signals.items()},
        **proof,
    }


def _reloaded_logits(model: ModelConfig, batches: list[Batch]) -> list[Tensor]:
    """Load the saved folder and return its logits; the log doesn't show the temporary name."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return list(logits(load_model(model, QuantizationConfig()), batches))
    finally:
        logger.setLevel(level)


def _merged_section(job: MergeJob, folder: Path, device: torch.device) -> ModelConfig:
    """Return the section `model` that loads the merged folder in the saved dtype on `device`."""
    return replace(
        job.model,
        path=str(folder),
        dtype=Dtype[dtype_name(job.dtype)],
        device=Device[device.type],
        revision=None,
        tokenizer=None,
        init={},
    )
