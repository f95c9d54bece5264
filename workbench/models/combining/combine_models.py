"""Merges several models that were tuned from one base, tensor by tensor.

Only the tensors of one name are in memory at a time, in float32. The merged model has the base's tensor
names, configuration and tokenizer.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from workbench.config.merge import MergeConfig, MergeDtype
from workbench.config.merge_method import MergeMethod
from workbench.config.model import ModelConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.models.checkpoints import generation_config
from workbench.models.checkpoints.model_folder import ModelFolder
from workbench.models.checkpoints.ready_quantized import FIELDS, folder_format
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.models.combining.combine_adapters import layer_seed
from workbench.models.combining.task_vectors import added_deltas, linear, slerp
from workbench.models.combining.text_interface import check_text_interface
from workbench.models.combining.tuned_models import check_one_base, open_weights
from workbench.models.dtypes import chosen_dtype, dtype_name
from workbench.models.merging.effect import (
    REFUSED_KEPT,
    REFUSED_WEIGHT_ERROR,
    WARNED_ERROR,
    WARNED_KEPT,
    share,
)
from workbench.models.stored import Stored
from workbench.models.tokenizers.load_tokenizer import READ, load_tokenizer
from workbench.progress import Progress
from workbench.run_dir import file_fingerprint, new_folder, write_json
from workbench.weights.shard_writer import MAX_SHARD_BYTES, Layout, ShardWriter
from workbench.weights.signal import Signal, measured

log = logging.getLogger("workbench")

SCHEMA_VERSION = 1
CONFIG_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class ModelsReport:
    """Record of a merge of models: its inputs, and what rounding to the result's dtype left of the change."""

    schema_version: int
    base_model: str | None
    """`model.path` of the base."""
    method: str
    density: float | None
    """Share of each difference from the base that isn't dropped; None: all."""
    normalize: bool
    """Whether the weighted sum was divided by the sum of the weights."""
    t: float | None
    """Position between the two models of slerp; None with other methods."""
    seed: int | None
    """Seed of the values that dare drops; None with other methods."""
    models: list[dict[str, object]]
    """`path`, `weight` and `fingerprint` of each merged model."""
    dtype: str
    """Dtype of the merged weights; `auto`: each tensor has the base's."""
    kept: float
    """Share of the intended change D that the rounded change A keeps: <A, D> / <D, D>."""
    error: float
    """Rounding error relative to the intended change D: |A - D| / |D|."""
    num_tensors: int
    fingerprints: dict[str, str]
    """SHA-256 of the base's folder (`base`) and of the merged folder (`merged`)."""


def combine_models(
    model: ModelConfig, merge: MergeConfig, folder: Path, check: Callable[[Path], None] = lambda folder: None
) -> ModelsReport:
    """Merge the models of `merge.models`, write the result to `folder`, and return the record of the merge.

    Each written tensor is read back and compared.

    Args:
        model: The base.
        merge: Section `merge` of the configuration.
        folder: Model folder to write or replace, with the base's configuration and tokenizer.
        check: Called with the written folder before it becomes `folder`; an error leaves `folder` as it was.

    Raises:
        CheckpointError: A model can't be read, is of another base, or has NaN or infinite values.
        ConfigError: A weight overflows `merge.dtype`, the merge equals the base, or rounding erases its
            change.
    """
    base = open_weights(model.path, "model.path", model.revision)
    tuned = [(entry.path, open_weights(entry.path, "merge.models")) for entry in merge.models]
    check_one_base(base, tuned)
    check_text_interface(model, base, tuned)
    if merge.dtype is MergeDtype.auto and folder_format(base.path) is not None:
        merge = replace(merge, dtype=MergeDtype[base.config["dtype"]])  # of the unpacked model
    with new_folder(folder) as temporary:
        signal = _write(base, tuned, merge, temporary)
        check_signal(signal, merge)
        _describe(base.path, temporary, model, merge.dtype)
        check(temporary)
        merged = file_fingerprint(temporary)
    return ModelsReport(
        schema_version=SCHEMA_VERSION,
        base_model=model.path,
        method=merge.combination.value,
        density=merge.density,
        normalize=merge.normalizes,
        t=merge.t,
        seed=merge.seed if merge.combination.is_random else None,
        models=[
            {"path": entry.path, "weight": entry.weight, "fingerprint": file_fingerprint(opened.path)}
            for entry, (_, opened) in zip(merge.models, tuned, strict=True)
        ],
        dtype=merge.dtype.value,
        kept=signal.projection,
        error=signal.error,
        num_tensors=len(base.tensors),
        fingerprints={"base": file_fingerprint(base.path), "merged": merged},
    )


def merged_tensor(
    base: Tensor, tensors: Sequence[Tensor], weights: Sequence[float], merge: MergeConfig, name: str
) -> Tensor:
    """Return one tensor of the merged model, in float32 and before rounding.

    Args:
        base: The base's tensor, float32.
        tensors: The tuned models' tensors, float32.
        weights: Weight of each tuned model; slerp ignores them.
        merge: Section `merge` of the configuration.
        name: Name of the tensor in the file; with `merge.seed` it determines which values dare drops.
    """
    method = merge.combination
    if method is MergeMethod.slerp:
        assert merge.t is not None
        return slerp(tensors[0], tensors[1], merge.t)
    if method is MergeMethod.linear:
        return linear(tensors, weights, merge.normalizes)
    return added_deltas(
        base,
        [tensor - base for tensor in tensors],
        weights,
        method,
        normalize=merge.normalizes,
        density=merge.density,
        generator=torch.Generator().manual_seed(layer_seed(merge.seed, name)),
    )


def check_signal(signal: Signal, merge: MergeConfig) -> None:
    """Refuse a merge whose change is lost in rounding; log a warning if much of it is lost.

    Args:
        signal: Sums over all tensors: the intended change, and that after rounding.
        merge: Section `merge` of the configuration.

    Raises:
        ConfigError: The merge equals the base, or rounding erased its change.
    """
    if not signal.intended_square:
        raise ConfigError("merge.models: their merge equals the base, so there is nothing to write")
    dtype = "the dtype of the base" if merge.dtype is MergeDtype.auto else merge.dtype.name
    kept, error = signal.projection, signal.error
    left = (
        f"rounding to {dtype} leaves {share(kept)} of what the merge changes, with an error of "
        f"{share(error)} of its size"
    )
    if kept < REFUSED_KEPT or error > REFUSED_WEIGHT_ERROR:
        raise ConfigError(f"merge.dtype: {left}, so nothing is published (merge.dtype=float32 keeps it)")
    if kept < WARNED_KEPT or error > WARNED_ERROR:
        log.warning("merge.dtype: %s (merge.dtype=float32 keeps all of it)", left)


def _write(
    base: ModelFolder, tuned: Sequence[tuple[str, ModelFolder]], merge: MergeConfig, folder: Path
) -> Signal:
    """Merge and write all tensors under the base's names; return how rounding affected their changes.

    Raises:
        CheckpointError: A weight is NaN or infinite, or reads back differently than it was written.
        ConfigError: A weight overflows the dtype.
    """
    layout: Layout = {
        base.file_names[name]: (_saved_dtype(stored, merge.dtype), tuple(stored.shape))
        for name, stored in base.tensors.items()
    }
    canonical_names = {file_name: name for name, file_name in base.file_names.items()}
    total = Signal()
    with (
        Progress(f"merge by {merge.combination.value}", len(layout), unit="tensors") as progress,
        ShardWriter(folder, layout, MAX_SHARD_BYTES) as writer,
    ):
        for file_name in writer.names:
            name = canonical_names[file_name]
            before = _checked(base.tensors[name], file_name, "the base")
            tensors = [_checked(opened.tensors[name], file_name, path) for path, opened in tuned]
            rounded, signal = _rounded(file_name, before, tensors, merge)
            writer.write(file_name, rounded)
            total += signal
            progress.advance(1)
    return total


def _checked(stored: Stored, name: str, path: str) -> Tensor:
    """Read a stored tensor and check that its values are finite.

    Raises:
        CheckpointError: A weight is NaN or infinite.
    """
    tensor = stored[...]
    if tensor.dtype.is_floating_point and not bool(tensor.isfinite().all()):
        raise CheckpointError(f"{path}: {name} has NaN or infinite values")
    return tensor


def _rounded(name: str, base: Tensor, tensors: Sequence[Tensor], merge: MergeConfig) -> tuple[Tensor, Signal]:
    """Return one merged tensor in the dtype to write, and how rounding affected its change.

    Raises:
        ConfigError: A weight overflows the dtype.
    """
    if not base.dtype.is_floating_point:
        return base, Signal()
    before, dtype = base.float(), _saved_dtype(base, merge.dtype)
    weights = [entry.weight for entry in merge.models]
    exact = merged_tensor(before, [tensor.float() for tensor in tensors], weights, merge, name)
    rounded = exact.to(dtype)
    if not bool(rounded.isfinite().all()):
        raise ConfigError(
            f"merge.dtype: {name} of the merged model overflows {dtype_name(dtype)} (set merge.dtype=float32)"
        )
    return rounded, measured(before, exact - before, rounded)


def _saved_dtype(stored: Stored, dtype: MergeDtype) -> torch.dtype:
    """Return the dtype in which a tensor is written; integers keep theirs."""
    return chosen_dtype(dtype, stored.dtype) if stored.dtype.is_floating_point else stored.dtype


def _describe(base: Path, folder: Path, model: ModelConfig, dtype: MergeDtype) -> None:
    """Write the base's configuration, end tokens and tokenizer, and the dtype of the weights in config.json.

    Args:
        base: Folder of the base.
        folder: Folder of the result.
        model: Section of the base; if it names a tokenizer, that is written instead of the base's own.
        dtype: Dtype of the weights.
    """
    for name in (*(READ if model.tokenizer is None else (CONFIG_FILE,)), generation_config.FILE):
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    if model.tokenizer is not None:
        load_tokenizer(model).save_pretrained(folder)
    if dtype is MergeDtype.auto:
        return
    config = read_json_object(folder / CONFIG_FILE)
    for name in ("torch_dtype", *FIELDS):
        config.pop(name, None)
    write_json(folder / CONFIG_FILE, config | {"dtype": dtype.value})
