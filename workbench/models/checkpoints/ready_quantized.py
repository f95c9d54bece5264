"""Reads model folders whose weights another tool has quantized: GPTQ, AWQ, FP8 and others.

Their weights are dequantized (unpacked) while they are read; `quantization` may quantize them again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from workbench.errors import CheckpointError
from workbench.models.checkpoints.foreign_code import runs_model_code
from workbench.models.checkpoints.state_dict import existing_files, open_tensors, read_json_object
from workbench.models.stored import Stored
from workbench.weights.unpacking.formats import BITSANDBYTES, UnknownFormatError, method_of, quantized_format
from workbench.weights.unpacking.unpack import unpacked
from workbench.weights.unpacking.unpacked_rows import Format

FIELDS = ("quantization_config", "compression_config")
"""Fields of config.json with the settings of a quantization."""
EARLY_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files with the settings in early GPTQ and AWQ folders -> the method."""
WAY_OUT = "take the unquantized model; quantization=nf4 or int8 quantizes it here"
DTYPES = ("dtype", "torch_dtype")
"""Fields of config.json with the dtype; the second is the earlier name."""


def quantized_by(config: Mapping[str, Any], file: Path) -> Format | None:
    """Return the format of a model's quantized weights, by its config.json; None if they aren't quantized.

    Args:
        config: Content of config.json, or of what other formats have in its place.
        file: File of `config`; beside a config.json the settings files of early GPTQ and AWQ are read, too.

    Raises:
        CheckpointError: The weights are quantized in a way that can't be unpacked; the message says why.
    """
    for where, settings in _settings(config, file).items():
        try:
            return quantized_format(settings if isinstance(settings, Mapping) else {"quant_method": settings})
        except UnknownFormatError as error:
            raise CheckpointError(f"{where}: {error} ({WAY_OUT})") from error
    return None


def is_bitsandbytes(config: Mapping[str, Any], file: Path) -> bool:
    """Return whether bitsandbytes quantized the weights, so that transformers can load them as they are.

    The arguments are those of `quantized_by`.
    """
    found = _settings(config, file).values()
    return any(isinstance(settings, Mapping) and method_of(settings) == BITSANDBYTES for settings in found)


def _settings(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return where the settings of a quantization are -> the settings; a model has at most one."""
    for prefix, section in (("", config), ("text_config.", config.get("text_config"))):
        for name in FIELDS:
            settings = section.get(name) if isinstance(section, Mapping) else None
            if settings:
                return {f"{file}: {prefix}{name}": settings}
    if file.name != "config.json":
        return {}
    for name, method in EARLY_FILES.items():
        early = file.parent / name
        if early.is_file():
            return {str(early): {"quant_method": method, **read_json_object(early)}}
    return {}


def unquantized(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of config.json's content for the unpacked model: without quantization, in another dtype.

    The dtype is float32 if config.json's is, else bfloat16, also in place of float16: training in float16
    needs a loss scale.
    """
    plain = _without_quantization(config)
    if isinstance(section := plain.get("text_config"), Mapping):
        plain["text_config"] = _without_quantization(section)
    return plain


def _without_quantization(section: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in section.items() if name not in (*FIELDS, *DTYPES)}
    is_float32 = "float32" in [section.get(name) for name in DTYPES]
    return {**plain, DTYPES[0]: "float32" if is_float32 else "bfloat16"}


def read_unpacked(path: Path, kind: Format) -> Mapping[str, Stored]:
    """Return name -> tensor of a quantized model's folder; each quantized weight is unpacked when accessed.

    Raises:
        CheckpointError: A file is missing or damaged, or a layer's tensors don't fit together.
    """
    if not (files := existing_files(path)):
        raise CheckpointError(f"{path}: no weights (model.safetensors or pytorch_model.bin, or their index)")
    return unpacked(open_tensors(files), kind, path)


def folder_format(path: Path) -> Format | None:
    """Return the format of the quantized weights in a folder; None for unquantized ones, or a GGUF file.

    Raises:
        CheckpointError: As in `quantized_by`.
    """
    file = path / "config.json"
    return quantized_by(read_json_object(file), file) if file.is_file() else None


def unpacked_format(path: Path, as_stored: bool) -> Format | None:
    """Return the format of weights that have to be unpacked for a class of transformers; None: none have to.

    Args:
        path: A folder or a `.gguf` file, whose weights are never unpacked here.
        as_stored: Whether transformers loads weights that bitsandbytes quantized as they are, not unpacked.

    Raises:
        CheckpointError: The weights can't be unpacked, or the model's own code is to be run.
        ConfigError: Transformers has no class for the model, and the user doesn't trust its code.
    """
    kind, file = folder_format(path), path / "config.json"
    if kind is None or (as_stored and is_bitsandbytes(read_json_object(file), file)):
        return None
    if runs_model_code(read_json_object(file), file):
        raise CheckpointError(f"{file}: weights quantized by {kind.method!r} and code of its own ({WAY_OUT})")
    return kind


def config_of(fields: Mapping[str, Any]) -> PreTrainedConfig:
    """Return the configuration of transformers for the content of a config.json whose model type it knows."""
    return CONFIG_MAPPING[fields["model_type"]].from_dict(dict(fields))
