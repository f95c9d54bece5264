"""Reads the tensors of a checkpoint folder, from safetensors or from pickles without running their code."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench.errors import CheckpointError, first_line
from workbench.files import read_json
from workbench.models.checkpoints.announced_sizes import check_tensors
from workbench.weights import pickles
from workbench.weights.file_tensors import FileTensor, file_tensors

FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weight files, or of an index of them, in the order in which they are looked for."""


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Return name -> tensor of all weight files in a folder; safetensors are preferred, as in transformers.

    The files are mapped into memory.

    Raises:
        CheckpointError: Weights or a shard are missing, a file is damaged, a pickle contains code, or two
            files have different tensors of one name.
    """
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        if not file.is_file():
            raise CheckpointError(f"{file}: missing, but listed in the index of the weights")
        shard = read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
        for name in sorted(tensors.keys() & shard.keys()):
            if not torch.equal(tensors[name], shard[name]):
                raise CheckpointError(
                    f"{file}: {name} differs from the tensor of the same name in another file"
                )
        tensors |= shard
    return tensors


def open_tensors(files: Iterable[Path]) -> dict[str, Tensor | FileTensor]:
    """Return name -> tensor of weight files; tensors in safetensors are read when they are accessed.

    If several files have a tensor of one name, the last one counts.

    Raises:
        CheckpointError: A file is missing or damaged, or a pickle contains code.
    """
    tensors: dict[str, Tensor | FileTensor] = {}
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file}: missing, but listed in the index of the weights")
        tensors |= file_tensors([file]) if file.suffix == ".safetensors" else read_pickle(file)
    return tensors


def existing_files(folder: Path) -> list[Path]:
    """Return the weight files of a folder, by their known names or those in an index; [] if it has neither.

    A file that the index names may be missing.

    Raises:
        CheckpointError: The index can't be read, or names a file outside the folder.
    """
    return _weight_files(folder) if any((folder / name).is_file() for name in FILES) else []


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that contain the weights.

    Raises:
        CheckpointError: No file has a known name, or the index can't be read.
    """
    for name in FILES:
        file = folder / name
        if not file.is_file():
            continue
        return _shards(file) if file.suffix == ".json" else [file]
    raise CheckpointError(f"{folder}: no weights (expected: one of {', '.join(FILES)})")


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names, each once; files outside the folder are refused."""
    try:
        names = set(read_json_object(index)["weight_map"].values())
    except (KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{index}: not an index of weights (a JSON object with a weight_map)"
        ) from error
    if outside := sorted(str(name) for name in names if Path(str(name)).name != name or name in ("", "..")):
        raise CheckpointError(f"{index}: names a file outside the folder, {outside[0]!r}")
    return [index.parent / name for name in sorted(names)]


def read_json_object(file: Path) -> dict[str, Any]:
    """Read a file that contains a JSON object, such as config.json.

    Raises:
        CheckpointError: The file can't be read, or is not a JSON object.
    """
    try:
        value = read_json(file)
    except OSError as error:
        raise CheckpointError(f"{file}: can't be read, {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{file}: not a JSON object, {first_line(error)}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: not a JSON object")
    return value


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Return name -> tensor of a safetensors file, which is mapped into memory.

    Raises:
        CheckpointError: The file is truncated or damaged.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(f"{file}: truncated or damaged ({error})") from error


def tensor_names(file: Path) -> list[str]:
    """Return the names of the tensors in a weight file; of safetensors only the header is read.

    Raises:
        CheckpointError: The file is missing, truncated or damaged, or a pickle with code.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: missing, but listed in the index of the weights")
    if file.suffix != ".safetensors":
        return list(read_pickle(file))
    try:
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise CheckpointError(f"{file}: truncated or damaged ({error})") from error


def read_pickle(file: Path) -> dict[str, Tensor]:
    """Return name -> tensor of a pickled state dict, without running code in it.

    Also of a state dict under the key `module`, as DeepSpeed writes it.

    Raises:
        CheckpointError: The pickle contains more than tensors, or the file is truncated or damaged.
    """
    tensors = pickles.read_pickle(file)
    if isinstance(tensors, dict) and isinstance(tensors.get("module"), dict):
        tensors = tensors["module"]  # the format in which DeepSpeed saved the original project's runs
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
    ):
        raise CheckpointError(f"{file}: not a state dict (a flat dictionary of names and tensors)")
    check_tensors(tensors, file)
    return tensors
