"""Merges an adapter into its base model, and proves the merged model before publishing it.

The base is loaded as for training and dequantized, the adapter is added in float32, and the sum is rounded
once. Three comparisons of logits on probe texts must hold: the float32 sum against base + adapter in float32,
the folder read back against the model that was saved, and the folder read back against the adapter model as
trained, within the measured rounding error.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.config.merge import MergeConfig
from workbench.config.model import Device, Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError, ConfigError, first_line
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.targets import check_base
from workbench.models.dtypes import chosen_dtype, dtype_name
from workbench.models.loading import load_model, load_tokenizer
from workbench.models.logit_comparison import (
    Batch,
    Bound,
    Check,
    Difference,
    check,
    close_calls,
    compare,
    encode,
    expected_flips,
    logits,
    scale,
)
from workbench.models.merge_base import MergeBase, load_base, tensors_fingerprint
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.run_dir import file_fingerprint, new_folder

logger = logging.getLogger("workbench")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and 37 is larger than 12.",
    "人工智能正在改变我们的生活和工作方式。",
    "Question: What is the capital of France?\nAnswer: Paris",
    "问题：中国的首都是哪里？\n答案：北京",
]
"""What a merge is proven on where there are no training rows."""

PROBE_TEXTS, PROBE_TOKENS, PROBE_BATCH = 16, 128, 4
"""Most texts to compare on, tokens of each that are compared, and texts per forward pass."""

TOLERANCE = 1e-4
"""Largest difference between two computations of the same float32 logits, as a share of the largest logit."""

MAX_SHARD_SIZE = "4GB"
"""Largest weight file; `recipe=export` writes other sizes."""

SCHEMA_VERSION = 1

ADAPTER_ROUNDING = (4, 1.5)
"""Factors on the merged model's largest and mean rounding error that bound the adapter model's, which rounds
in other operations, and about as much. In bfloat16 on NF4 the ratio of the largest errors stayed below 1.7 on
8 random models of 14 tokens; the ratio of the means was 0.96 to 1.02 on 656 tokens of a 135M model."""


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """Merged models, and the results of the comparisons."""

    schema_version: int
    base_model: str | None
    quantization: str
    dtype: str
    reference: str
    """`adapter model` or `dequantized base + adapter`."""
    logit_scale: float
    """Largest absolute logit of the float32 sum."""
    merged: Check
    """The folder read back against the reference."""
    float32_sum: Check
    """The sum against base + adapter, both float32."""
    disk: Check
    """The folder read back against the model that was saved."""
    fingerprints: dict[str, str]
    """SHA-256 of base weights, adapter and merged folder."""


@dataclass(kw_only=True)
class _Float32Sum:
    """The merged model in float32."""

    model: PreTrainedModel | None
    unmerged_logits: list[Tensor]
    """Logits of base + adapter."""
    logits: list[Tensor]
    """Logits of the merged model."""
    bound: Bound
    """Allowed difference between two computations of the same float32 logits."""
    check: Check


@dataclass(frozen=True, kw_only=True)
class _Rounding:
    """Effect of rounding the float32 sum on its logits."""

    logits: list[Tensor]
    """Logits in the dtype that is saved."""
    errors: dict[torch.dtype, Difference]
    """Rounding error by dtype: of the saved dtype, and of the adapter model's."""
    flips: float
    """Expected number of positions where rounding changes the argmax of the merged or the adapter model."""


def merge(
    model: ModelConfig,
    adapter_path: str | Path,
    merge: MergeConfig,
    quantization: QuantizationConfig,
    folder: Path,
    probe: list[str],
) -> MergeReport:
    """Write the merged model to `folder`, and return the report of its proof.

    Args:
        model: The base, as for training.
        adapter_path: Adapter folder or hub id.
        merge: The section.
        quantization: As for training: the adapter has learned to compensate this quantization's errors.
        folder: Model folder to write, with the tokenizer; the model has the base's class.
        probe: Texts to compare the models on.

    Raises:
        ConfigError: The base has random weights, or a weight overflows `merge.dtype`.
        CheckpointError: A comparison failed; nothing is published.
        DataError: There is no text to compare on.
    """
    check_base(model)
    tokenizer = load_tokenizer(model)
    take_template(tokenizer, adapter_config.chat_template(adapter_path))
    batches = encode(tokenizer, probe[:PROBE_TEXTS], PROBE_TOKENS, PROBE_BATCH)
    base = load_base(model, adapter_path, quantization, batches)
    dtype = chosen_dtype(merge.dtype, base.dtype)
    adapter = adapter_config.fingerprint(adapter_path)
    fingerprints = {"base": tensors_fingerprint(base.weights), "adapter": adapter}
    total = _add_adapter(base, adapter_path, batches)
    with new_folder(folder) as temporary:
        rounding = _save_rounded(total, dtype, base.adapter_dtype, temporary, batches)
        tokenizer.save_pretrained(temporary)
        total.model = None  # frees the memory for the copy on disk
        reloaded = _reloaded_logits(_merged_section(model, temporary, dtype, base.device), batches)
        disk = check(
            "the folder read back differs from what was saved", rounding.logits, reloaded, total.bound
        )
        merged = _check_merged(reloaded, base, total, rounding, dtype)
        fingerprints["merged"] = file_fingerprint(temporary)
    return MergeReport(
        schema_version=SCHEMA_VERSION,
        base_model=model.path,
        quantization=quantization.method.value,
        dtype=dtype_name(dtype),
        reference=base.reference,
        logit_scale=scale(total.logits),
        merged=merged,
        float32_sum=total.check,
        disk=disk,
        fingerprints=fingerprints,
    )


def _add_adapter(base: MergeBase, adapter_path: str | Path, batches: list[Batch]) -> _Float32Sum:
    """Merge the adapter into the base in float32, and compare logits before and after.

    Raises:
        CheckpointError: The logits differ, or a weight of the sum overflows float32.
    """
    with quiet_transformers():
        float32_base: PreTrainedModel = base.model_class.from_pretrained(
            None, config=base.config, state_dict=base.weights, dtype=torch.float32
        )
    base.weights = {}
    if base.generation_config is not None:
        float32_base.generation_config = base.generation_config
    cast(torch.nn.Module, float32_base).to(base.device)
    adapter_model = attach.load(float32_base, adapter_path)
    unmerged_logits = list(logits(adapter_model, batches))
    try:
        merged = cast(PreTrainedModel, adapter_model.merge_and_unload(safe_merge=True))
    except ValueError as error:
        reason = f"can't be merged, {first_line(error)}"
        raise CheckpointError(f"{adapter_path}: {reason} (a weight or its alpha is too large)") from error
    merged_logits = list(logits(merged, batches))
    largest = TOLERANCE * scale(merged_logits)
    flips = close_calls(merged_logits, largest)
    bound = Bound(largest, largest, flips, f"{TOLERANCE:g} of the largest logit")
    return _Float32Sum(
        model=merged,
        unmerged_logits=unmerged_logits,
        logits=merged_logits,
        bound=bound,
        check=check("the float32 sum differs from base + adapter", unmerged_logits, merged_logits, bound),
    )


def _save_rounded(
    total: _Float32Sum,
    dtype: torch.dtype,
    adapter_dtype: torch.dtype,
    folder: Path,
    batches: list[Batch],
) -> _Rounding:
    """Round the sum to `dtype` and save it; measure the rounding errors of `dtype` and `adapter_dtype`.

    Raises:
        ConfigError: A weight overflows `dtype`.
    """
    assert total.model is not None
    rounded = {torch.float32: total.logits}
    _round_parameters(total.model, dtype)
    rounded[dtype] = list(logits(total.model, batches))
    errors = {dtype: compare(total.logits, rounded[dtype])}
    if not math.isfinite(errors[dtype].largest):
        raise ConfigError(
            f"merge.dtype: {dtype_name(dtype)!r} has too small a range for these weights (use float32)"
        )
    with quiet_transformers():
        total.model.save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)
    if adapter_dtype not in rounded:
        _round_parameters(total.model, adapter_dtype)
        rounded[adapter_dtype] = list(logits(total.model, batches))
    errors[adapter_dtype] = compare(total.logits, rounded[adapter_dtype])
    noises = [
        _rounding_noise(total.logits, rounded[dtype], 1.0),
        _rounding_noise(total.logits, rounded[adapter_dtype], ADAPTER_ROUNDING[1]),
    ]
    return _Rounding(logits=rounded[dtype], errors=errors, flips=expected_flips(total.logits, noises))


def _check_merged(
    reloaded: list[Tensor], base: MergeBase, total: _Float32Sum, rounding: _Rounding, dtype: torch.dtype
) -> Check:
    """Compare the logits of the folder read back with the reference.

    Raises:
        CheckpointError: They differ by more than the measured rounding error.
    """
    bound = replace(total.bound, flips=total.bound.flips + rounding.flips)
    bound = bound.wider_by(rounding.errors[dtype], f"rounding to {dtype_name(dtype)}")
    bound = bound.wider_by(
        rounding.errors[base.adapter_dtype],
        f"rounding to {dtype_name(base.adapter_dtype)}",
        ADAPTER_ROUNDING,
    )
    expected = base.adapter_logits or total.unmerged_logits
    return check(f"the merged model differs from the {base.reference}", expected, reloaded, bound)


def _rounding_noise(exact: list[Tensor], rounded: list[Tensor], factor: float) -> Iterator[Tensor]:
    """Yield each batch's rounding errors, times `factor`."""
    return ((after - before) * factor for before, after in zip(exact, rounded, strict=True))


def _reloaded_logits(model: ModelConfig, batches: list[Batch]) -> list[Tensor]:
    """Load the saved folder and return its logits; its temporary name is not logged."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return list(logits(load_model(model, QuantizationConfig()), batches))
    finally:
        logger.setLevel(level)


def _round_parameters(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Round the parameters in place, without the buffers: a loaded model's rotary frequencies are float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


def _merged_section(
    model: ModelConfig, folder: Path, dtype: torch.dtype, device: torch.device
) -> ModelConfig:
    """Return the model section for the merged folder."""
    return replace(
        model,
        path=str(folder),
        dtype=Dtype[dtype_name(dtype)],
        device=Device[device.type],
        revision=None,
        tokenizer=None,
        init={},
    )
