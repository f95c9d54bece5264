"""Computes the checksum of a model's weights, whatever else is in its folder."""

from pathlib import Path

from workbench.config.model import ModelConfig
from workbench.files import file_fingerprint, fingerprint, model_files
from workbench.models.checkpoints import meta_llama
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.state_dict import existing_files
from workbench.reading_once import computed_once
from workbench.weights.file_tensors import file_tensors, tensors_fingerprint


def weights_fingerprint(model: ModelConfig) -> str:
    """Return the SHA-256 (hexadecimal) of the weights at `model.path`, which are read.

    Safetensors are hashed tensor by tensor, so that their division into files doesn't matter; other formats
    file by file. A tokenizer, a model card or generation settings don't change the result.

    Raises:
        CheckpointError: There is no model, or a file is damaged.
        ConfigError: `model.path` is not given.
    """
    path = locate(model.path, model.revision)
    if path.is_file():
        return file_fingerprint(path)
    files = _weight_files(path)
    if files and all(file.suffix == ".safetensors" for file in files):
        return computed_once("tensors", path, files, lambda: tensors_fingerprint(file_tensors(files)))
    return fingerprint([[file.name, file_fingerprint(file)] for file in files])


def model_fingerprint(model: ModelConfig) -> str:
    """Return the SHA-256 of the weights at `model.path` and of the other files of the model's folder.

    Hidden files and the model card don't count.

    Raises:
        CheckpointError: There is no model, or a file is damaged.
        ConfigError: `model.path` is not given.
    """
    path = locate(model.path, model.revision)
    weight_files = [path] if path.is_file() else _weight_files(path)
    others = [] if path.is_file() else [file for file in model_files(path) if file not in weight_files]
    named = [[str(file.relative_to(path)), file_fingerprint(file)] for file in others]
    return fingerprint([weights_fingerprint(model), named])


def _weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a folder."""
    is_meta = meta_llama.is_meta(folder)
    return sorted(folder.glob("consolidated.*.pth")) if is_meta else existing_files(folder)
