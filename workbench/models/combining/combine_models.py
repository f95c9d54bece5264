"""Makes one model out of several tuned models of one base, tensor by tensor.

The models' files are mapped. In memory are the tensors of one name in float32, and one file of the result,
which has the base's tensor names, configuration and tokenizer.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from workbench.config.merge import MergeConfig, MergeDtype
from workbench.config.merge_method import MergeMethod
from workbench.config.model import ModelConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.models.checkpoints import generation_config
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.state_dict import (
    existing_files,
    read_folder,
    read_json_object,
    read_safetensors,
)
from workbench.models.combining.combine_adapters import layer_seed
from workbench.models.combining.rounding import Rounding, rounding_of
from workbench.models.combining.task_vectors import added_deltas, linear, slerp
from workbench.models.tokenizers.load_tokenizer import READ
from workbench.progress import Progress
from workbench.run_dir import file_fingerprint, new_folder, write_json

log = logging.getLogger("workbench")

SCHEMA_VERSION = 1
MAX_SHARD_BYTES = 10**9
"""Largest size of a file's tensors; a larger tensor has a file of its own."""
CONFIG_FILE = "config.json"
INDEX = "model.safetensors.index.json"
COPIED = (*READ, generation_config.FILE)
"""Files of the base that the result takes."""
LEAST_KEPT, MOST_ERROR = 0.5, 0.9
"""Share of the change that must be left after rounding, and largest error relative to its size."""
GOOD_KEPT, GOOD_ERROR = 0.9, 0.5
"""The same, below and above which there is a warning."""
DTYPES = {
    MergeDtype.float32: torch.float32,
    MergeDtype.bfloat16: torch.bfloat16,
    MergeDtype.float16: torch.float16,
}
ARCHITECTURE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
"""Fields of config.json by which a model of another base is named before its tensors are read."""


@dataclass(frozen=True, kw_only=True)
class ModelsReport:
    """What a model was merged from, and what its dtype left of the merge."""

    schema_version: int
    base_model: str | None
    method: str
    density: float | None
    normalize: bool
    t: float | None
    seed: int | None
    models: list[dict[str, object]]
    """Path, weight and fingerprint of each."""
    dtype: str
    kept: float
    """Share of the change that the method asks for which is left after rounding: <A, D> / <D, D>."""
    error: float
    """Error of rounding relative to the size of that change: |A - D| / |D|."""
    num_tensors: int
    fingerprints: dict[str, str]
    """SHA-256 of the base's tensors and of the merged folder."""


def combine_models(model: ModelConfig, merge: MergeConfig, folder: Path) -> ModelsReport:
    """Write the merge of `merge.models` to `folder`, and check each tensor as it is read back.

    Args:
        model: The base.
        merge: The section.
        folder: Model folder to write, with the base's configuration and tokenizer.

    Raises:
        CheckpointError: A model can't be read, or is of another base.
        ConfigError: A weight overflows `merge.dtype`.
    """
    base_folder = locate(model.path, model.revision)
    base = _tensors(base_folder, str(model.path))
    folders = [_located(part.path) for part in merge.models]
    models = [_tensors(located, part.path) for located, part in zip(folders, merge.models, strict=True)]
    for part, located, tensors in zip(merge.models, folders, models, strict=True):
        _check_one_base(base_folder, base, located, tensors, part.path)
    with new_folder(folder) as temporary:
        rounding = _write(base, models, merge, temporary)
        check_kept(rounding, merge)
        for name in COPIED:
            if (base_folder / name).is_file():
                shutil.copyfile(base_folder / name, temporary / name)
        _set_dtype(temporary / CONFIG_FILE, merge.dtype)
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
            {"path": part.path, "weight": part.weight, "fingerprint": file_fingerprint(located)}
            for part, located in zip(merge.models, folders, strict=True)
        ],
        dtype=merge.dtype.value,
        kept=rounding.kept,
        error=rounding.error,
        num_tensors=len(base),
        fingerprints={"base": file_fingerprint(base_folder), "merged": merged},
    )


def merged_tensor(
    base: Tensor, tensors: Sequence[Tensor], weights: Sequence[float], merge: MergeConfig, name: str
) -> Tensor:
    """Return one tensor of the merged model, in float32.

    Args:
        base: The base's tensor, float32.
        tensors: The models' tensors, float32.
        weights: Their weights.
        merge: The section.
        name: Name of the tensor, which decides with `merge.seed` which values dare drops.
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


def check_kept(rounding: Rounding, merge: MergeConfig) -> None:
    """Refuse a merge that rounding has erased, and warn of one that it has blurred.

    Raises:
        ConfigError: Nothing is left to merge, or rounding left less than half of it.
    """
    if not rounding.intended:
        raise ConfigError("merge.models: their merge equals the base, so there is nothing to write")
    dtype = "the dtype of the base" if merge.dtype is MergeDtype.auto else merge.dtype.name
    left = (
        f"rounding to {dtype} leaves {rounding.kept:.0%} of the change, with an error of "
        f"{rounding.error:.0%} of its size"
    )
    if rounding.kept < LEAST_KEPT or rounding.error > MOST_ERROR:
        raise ConfigError(f"merge.dtype: {left} (merge.dtype=float32 keeps it)")
    if rounding.kept < GOOD_KEPT or rounding.error > GOOD_ERROR:
        log.warning("merge.dtype: %s (merge.dtype=float32 keeps all of it)", left)


def _located(path: str) -> Path:
    """Return the folder of a model.

    Raises:
        CheckpointError: There is none.
    """
    try:
        return locate(path)
    except CheckpointError as error:
        raise CheckpointError(str(error).replace("model.path", "merge.models")) from error


def _tensors(folder: Path, path: str) -> dict[str, Tensor]:
    """Return a model's tensors, mapped into memory.

    Raises:
        CheckpointError: The folder has no weights, or they are damaged.
    """
    if not folder.is_dir() or not existing_files(folder):
        raise CheckpointError(
            f"merge.models: {path!r} has no weights of transformers, whose tensors can be read one by one "
            "(recipe=export writes such a folder)"
        )
    return read_folder(folder)


def _check_one_base(
    base_folder: Path,
    base: Mapping[str, Tensor],
    folder: Path,
    tensors: Mapping[str, Tensor],
    path: str,
) -> None:
    """Raise CheckpointError if a model has other tensors than the base, or another architecture."""
    ours, theirs = (read_json_object(place / CONFIG_FILE) for place in (base_folder, folder))
    for field in ARCHITECTURE:
        if ours.get(field) != theirs.get(field):
            raise CheckpointError(
                f"merge.models: {path!r} is not of the base {str(base_folder)!r}: its {field} is "
                f"{theirs.get(field)!r}, not {ours.get(field)!r} (models tuned from one base only)"
            )
    for name in sorted(base.keys() ^ tensors.keys()):
        lacking, having = ("the base", path) if name in tensors else (path, "the base")
        raise CheckpointError(
            f"merge.models: {name} is in {having!r} and not in {lacking!r} (models tuned from one base only)"
        )
    for name, tensor in base.items():
        if tensor.shape != tensors[name].shape:
            raise CheckpointError(
                f"merge.models: {name} is {list(tensors[name].shape)} in {path!r} and {list(tensor.shape)} "
                "in the base (models of one base and one vocabulary only)"
            )


def _write(
    base: Mapping[str, Tensor], models: Sequence[Mapping[str, Tensor]], merge: MergeConfig, folder: Path
) -> Rounding:
    """Write all tensors, file by file, and return what rounding left of their changes.

    Raises:
        CheckpointError: A tensor that was read back differs from what was written.
        ConfigError: A weight overflows the dtype.
    """
    shards = divided(
        {name: _num_bytes(tensor, merge.dtype) for name, tensor in base.items()}, MAX_SHARD_BYTES
    )
    files = [shard_name(number, len(shards)) for number in range(len(shards))]
    total = Rounding()
    with Progress(f"merge by {merge.combination.value}", len(base), unit="tensors") as progress:
        for file, names in zip(files, shards, strict=True):
            held: dict[str, Tensor] = {}
            for name in names:
                held[name], rounding = _rounded(
                    name, base[name], [tensors[name] for tensors in models], merge
                )
                total += rounding
                progress.advance(1)
            save_file(held, folder / file, metadata={"format": "pt"})
            _check_read_back(folder / file, held)
    if len(shards) > 1:
        index = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        sizes = sum(_num_bytes(tensor, merge.dtype) for tensor in base.values())
        write_json(folder / INDEX, {"metadata": {"total_size": sizes}, "weight_map": index})
    return total


def _rounded(
    name: str, base: Tensor, tensors: Sequence[Tensor], merge: MergeConfig
) -> tuple[Tensor, Rounding]:
    """Return a tensor of the result in its dtype, and what rounding left of its change.

    Raises:
        CheckpointError: A weight of the base or of a model isn't a number.
        ConfigError: A weight overflows the dtype.
    """
    for path, tensor in zip(
        ("the base", *(part.path for part in merge.models)), (base, *tensors), strict=True
    ):
        if tensor.dtype.is_floating_point and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path}: {name} has NaN or infinite values")
    if not base.dtype.is_floating_point:
        return base.clone(), Rounding()
    before, dtype = base.float(), _saved_dtype(base, merge.dtype)
    weights = [part.weight for part in merge.models]
    exact = merged_tensor(before, [tensor.float() for tensor in tensors], weights, merge, name)
    rounded = exact.to(dtype).contiguous()
    if not bool(rounded.isfinite().all()):
        raise ConfigError(f"merge.dtype: {name} of the merged model overflows {dtype} (use float32)")
    return rounded, rounding_of(before, exact, rounded)


def _check_read_back(file: Path, written: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if a file doesn't hold what was written."""
    for name, tensor in read_safetensors(file).items():
        if not torch.equal(tensor, written[name]):
            raise CheckpointError(f"{file}: {name} read back differs from what was written")


def divided(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Divide tensors, given their bytes, into files of at most so many bytes, in their order."""
    shards: list[list[str]] = []
    left = 0
    for name, size in sizes.items():
        if not shards or size > left:
            shards.append([])
            left = most
        shards[-1].append(name)
        left -= size
    return shards


def shard_name(number: int, count: int) -> str:
    """Return the name of one of `count` files, as transformers names them."""
    return f"model-{number + 1:05}-of-{count:05}.safetensors" if count > 1 else "model.safetensors"


def _num_bytes(tensor: Tensor, dtype: MergeDtype) -> int:
    """Return the size of a tensor as it is written."""
    return tensor.numel() * _saved_dtype(tensor, dtype).itemsize


def _saved_dtype(tensor: Tensor, dtype: MergeDtype) -> torch.dtype:
    """Return the dtype in which a tensor is written."""
    if dtype is MergeDtype.auto or not tensor.dtype.is_floating_point:
        return tensor.dtype
    return DTYPES[dtype]


def _set_dtype(file: Path, dtype: MergeDtype) -> None:
    """Write the dtype of the merged weights into config.json, if it isn't the base's."""
    if dtype is MergeDtype.auto:
        return
    config = read_json_object(file)
    config.pop("torch_dtype", None)
    write_json(file, config | {"dtype": dtype.value})
