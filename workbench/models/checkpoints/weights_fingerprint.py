"""Computes the checksum of a model's weights, whatever else is in its folder."""

from workbench.config.model import ModelConfig
from workbench.files import file_fingerprint, fingerprint
from workbench.models.checkpoints import meta_llama
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.state_dict import existing_files
from workbench.reading_once import computed_once
from workbench.weights.file_tensors import file_tensors, tensors_fingerprint


def weights_fingerprint(model: ModelConfig) -> str:
    """Return the SHA-256 of the weights at `model.path`.

    Of safetensors it is that of the tensors, however they are split over files; of other formats, of the
    files. A tokenizer, a model card or generation settings don't change it.

    Raises:
        CheckpointError: There is no model, or a file is damaged.
    """
    path = locate(model.path, model.revision)
    if path.is_file():
        return file_fingerprint(path)
    is_meta = meta_llama.is_meta(path)
    files = sorted(path.glob("consolidated.*.pth")) if is_meta else existing_files(path)
    if files and all(file.suffix == ".safetensors" for file in files):
        return computed_once("tensors", path, files, lambda: tensors_fingerprint(file_tensors(files)))
    return fingerprint([[file.name, file_fingerprint(file)] for file in files])
