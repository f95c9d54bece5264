"""Adapter and base become one plain model, proven before it is published.

The base is loaded as for training and dequantized, the adapter is added in float32, the sum is rounded once.
Three comparisons on a probe set have to hold: the sum is base + adapter (both float32), the folder is that
sum (read back), and what was read back is the adapter model as trained, within the measured rounding.
"""

import copy
import hashlib
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from workbench.config.merge import MergeConfig
from workbench.config.model import Device, Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError, ConfigError, first_line
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.targets import check_base
from workbench.models.checkpoints.generation_config import end_at
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
from workbench.models.quantization import compute_dtype, dequantize_state_dict
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.run_dir import RunDir, file_fingerprint, new_folder, write_json

logger = logging.getLogger("workbench")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and 37 is larger than 12.",
    "人工智能正在改变我们的生活和工作方式。",
    "Question: What is the capital of France?\nAnswer: Paris",
    "问题：中国的首都是哪里？\n答案：北京",
]
"""What a merge is proven on where there are no training rows."""

SCHEMA_VERSION = 1

LIVE = (4, 1.5)
"""The adapter model rounds at other places than the merged one, about as far from the exact sum: its largest
and its mean difference from that may be so many times the merged model's own. In bfloat16 on NF4 the largest
stayed below 1.7 on 8 random models of 14 tokens; the mean was 0.96 to 1.02 on 656 tokens of a 135M model."""

ADAPTER_MODEL, DEQUANTIZED = "adapter model", "dequantized base + adapter"
"""What the merged model has to agree with; the second where int8 on CUDA rounds its input by batch."""


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What was merged and how it was proven."""

    schema_version: int
    base_model: str | None
    quantization: str
    dtype: str
    reference: str
    """`adapter model` or `dequantized base + adapter`."""
    logit_scale: float
    """The largest logit of the float32 sum."""
    merged: Check
    """The folder read back against the reference."""
    float32_sum: Check
    """The sum against base + adapter, both float32."""
    disk: Check
    """The folder read back against what was saved."""
    fingerprints: dict[str, str]
    """SHA-256 of base weights, adapter and merged folder."""


@dataclass(kw_only=True)
class _Source:
    """The base as plain weights, and what the adapter model on it answered."""

    kind: type[PreTrainedModel]
    config: PreTrainedConfig
    generation_config: GenerationConfig | None
    weights: dict[str, Tensor]
    """Float32, on the CPU."""
    dtype: torch.dtype
    """The one it was loaded in."""
    live_dtype: torch.dtype
    """The coarsest that the adapter model computes in."""
    live: list[Tensor]
    """Logits of the adapter model; empty where they depend on the batch."""
    reference: str
    device: torch.device
    """Where the float32 sum fits."""


@dataclass(kw_only=True)
class _Sum:
    """The merged model in float32."""

    model: PreTrainedModel | None
    unmerged: list[Tensor]
    """Logits of base + adapter."""
    exact: list[Tensor]
    """Logits of the sum."""
    tight: Bound
    """How far apart two ways to the same float32 numbers may end."""
    check: Check


@dataclass(frozen=True, kw_only=True)
class _Rounding:
    """What rounding the float32 sum does to its logits."""

    logits: list[Tensor]
    """Of the sum in the dtype that it is saved in."""
    errors: dict[torch.dtype, Difference]
    """Of that dtype, of the adapter model's and of float32."""
    flips: float
    """Next tokens by which the merged and the adapter model are expected to differ, both rounded."""


def merge(
    model: ModelConfig,
    adapter_path: str | Path,
    merge: MergeConfig,
    quantization: QuantizationConfig,
    folder: Path,
    probe: list[str],
) -> MergeReport:
    """Write the merged model to `folder` and the report beside it, or neither.

    Args:
        model: The base, as it was for training.
        adapter_path: What training wrote.
        merge: The section.
        quantization: As it was for training: the adapter has learned to mend this base.
        folder: Becomes a plain model folder of the same class, with its tokenizer.
        probe: Texts to compare the models on.

    Raises:
        ConfigError: the base is random, or `merge.dtype` can't hold the sum.
        CheckpointError: the proof failed; nothing is published.
        DataError: no text to compare on.
    """
    check_base(model)
    tokenizer = load_tokenizer(model)
    take_template(tokenizer, adapter_config.chat_template(adapter_path))
    batches = encode(tokenizer, probe[: merge.probe_size], merge.probe_length, merge.batch_size)
    source = _read(model, adapter_path, quantization, batches)
    dtype = chosen_dtype(merge.dtype, source.dtype)
    adapter = adapter_config.fingerprint(adapter_path)
    fingerprints = {"base": tensors_fingerprint(source.weights), "adapter": adapter}
    total = _add(source, adapter_path, batches, merge.tolerance)
    with new_folder(folder) as temporary:
        rounding = _save(total, dtype, source.live_dtype, temporary, merge.max_shard_size, batches)
        tokenizer.save_pretrained(temporary)
        total.model = None  # makes room for the copy on disk
        again = _read_back(_at(model, temporary, dtype, source.device), batches)
        disk = check("the folder read back differs from what was saved", rounding.logits, again, total.tight)
        proven = check(
            f"the merged model differs from the {source.reference}",
            source.live or total.unmerged,
            again,
            replace(total.tight, flips=total.tight.flips + rounding.flips)
            .wider_by(rounding.errors[dtype], f"rounding to {dtype_name(dtype)}")
            .wider_by(
                rounding.errors[source.live_dtype], f"rounding to {dtype_name(source.live_dtype)}", LIVE
            ),
        )
        fingerprints["merged"] = file_fingerprint(temporary)
    report = MergeReport(
        schema_version=SCHEMA_VERSION,
        base_model=model.path,
        quantization=quantization.method.value,
        dtype=dtype_name(dtype),
        reference=source.reference,
        logit_scale=scale(total.exact),
        merged=proven,
        float32_sum=total.check,
        disk=disk,
        fingerprints=fingerprints,
    )
    write_json(RunDir(folder.parent).merge_report, asdict(report))
    return report


def tensors_fingerprint(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of float32 tensors on the CPU."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {list(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def _read(
    model: ModelConfig, adapter_path: str | Path, quantization: QuantizationConfig, batches: list[Batch]
) -> _Source:
    """Load the base as for training, take its weights and the adapter model's logits, and let it go."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # a new score head is random; the adapter's takes its place
        base = load_model(model, quantization, adapter_config.num_labels(adapter_path))
    end_at(base, adapter_config.end_tokens(adapter_path))
    weights = dequantize_state_dict(base)
    live_model = attach.load(base, adapter_path)
    by_batch = quantization.method is QuantizationMethod.int8 and base.device.type == "cuda"
    return _Source(
        kind=type(base),
        config=_plain_config(base),
        generation_config=base.generation_config if base.can_generate() else None,
        weights=weights,
        dtype=base.dtype,
        live_dtype=torch.float32 if by_batch else _coarsest_dtype(base, quantization),
        live=[] if by_batch else list(logits(live_model, batches)),
        reference=DEQUANTIZED if by_batch else ADAPTER_MODEL,
        device=_roomy_device(weights, base.device),
    )


def _add(source: _Source, adapter_path: str | Path, batches: list[Batch], tolerance: float) -> _Sum:
    """Base + adapter as one plain float32 model, checked against both apart.

    Raises:
        CheckpointError: the two don't agree, or the sum has numbers beyond float32.
    """
    with quiet_transformers():
        plain: PreTrainedModel = source.kind.from_pretrained(
            None, config=source.config, state_dict=source.weights, dtype=torch.float32
        )
    source.weights = {}
    if source.generation_config is not None:
        plain.generation_config = source.generation_config
    cast(torch.nn.Module, plain).to(source.device)
    with_adapter = attach.load(plain, adapter_path)
    unmerged = list(logits(with_adapter, batches))
    try:
        merged = cast(PreTrainedModel, with_adapter.merge_and_unload(safe_merge=True))
    except ValueError as error:
        reason = f"can't be merged, {first_line(error)}"
        raise CheckpointError(f"{adapter_path}: {reason} (a weight or its alpha is too large)") from error
    exact = list(logits(merged, batches))
    largest = tolerance * scale(exact)
    close = close_calls(exact, largest)
    tight = Bound(largest, largest, close, f"{tolerance:g} of the largest logit")
    return _Sum(
        model=merged,
        unmerged=unmerged,
        exact=exact,
        tight=tight,
        check=check("the float32 sum differs from base + adapter", unmerged, exact, tight),
    )


def _save(
    total: _Sum,
    dtype: torch.dtype,
    live_dtype: torch.dtype,
    folder: Path,
    max_shard_size: str,
    batches: list[Batch],
) -> _Rounding:
    """Round the sum to `dtype` and write it; measure what rounding to either dtype does to its logits.

    Raises:
        ConfigError: a number is too large for `dtype`.
    """
    assert total.model is not None
    rounded = {torch.float32: total.exact}
    _round(total.model, dtype)
    rounded[dtype] = list(logits(total.model, batches))
    errors = {dtype: compare(total.exact, rounded[dtype])}
    if not math.isfinite(errors[dtype].largest):
        raise ConfigError(f"merge.dtype: {dtype_name(dtype)!r} can't hold this model's numbers (use float32)")
    with quiet_transformers():
        total.model.save_pretrained(folder, max_shard_size=max_shard_size)
    if live_dtype not in rounded:
        _round(total.model, live_dtype)
        rounded[live_dtype] = list(logits(total.model, batches))
    errors[live_dtype] = compare(total.exact, rounded[live_dtype])
    noises = [_noise(total.exact, rounded[dtype], 1.0), _noise(total.exact, rounded[live_dtype], LIVE[1])]
    return _Rounding(logits=rounded[dtype], errors=errors, flips=expected_flips(total.exact, noises))


def _noise(exact: list[Tensor], rounded: list[Tensor], factor: float) -> Iterator[Tensor]:
    """The differences that a rounding makes, so many times."""
    return ((after - before) * factor for before, after in zip(exact, rounded, strict=True))


def _read_back(model: ModelConfig, batches: list[Batch]) -> list[Tensor]:
    """Logits of the folder as it lies on disk; its name is a passing one and not said."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return list(logits(load_model(model, QuantizationConfig()), batches))
    finally:
        logger.setLevel(level)


def _round(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Round the weights, in place; not the buffers: rotary frequencies are float32 in any loaded model."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


def _at(model: ModelConfig, folder: Path, dtype: torch.dtype, device: torch.device) -> ModelConfig:
    """The same section for the merged folder."""
    return replace(
        model,
        path=str(folder),
        dtype=Dtype[dtype_name(dtype)],
        device=Device[device.type],
        revision=None,
        tokenizer=None,
        init={},
    )


def _plain_config(base: PreTrainedModel) -> PreTrainedConfig:
    """The base's configuration without its quantization."""
    config = copy.deepcopy(base.config)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        config.__dict__.pop(name, None)
    return config


def _roomy_device(weights: dict[str, Tensor], device: torch.device) -> torch.device:
    """`device`, or the CPU where the float32 weights and some activations don't fit on it."""
    if device.type != "cuda":
        return device
    needed = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    return device if 1.3 * needed < torch.cuda.mem_get_info(device)[0] else torch.device("cpu")


def _coarsest_dtype(base: PreTrainedModel, quantization: QuantizationConfig) -> torch.dtype:
    """Of the dtypes that the adapter model computes in, the one with the largest rounding error."""
    dtypes = {base.dtype}
    if quantization.method in (QuantizationMethod.nf4, QuantizationMethod.fp4):
        dtypes.add(compute_dtype(quantization, base.dtype))
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
