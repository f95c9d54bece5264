"""Loads any Hugging Face model by transformers' classes; a model's own code runs only if it is trusted."""

import logging
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from workbench.config.model import ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError
from workbench.models.checkpoints import chatglm
from workbench.models.checkpoints.announced_sizes import check_sizes
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.checkpoints.foreign_code import runs_model_code
from workbench.models.checkpoints.generation_config import FILE as GENERATION_FILE
from workbench.models.checkpoints.generation_config import settle_generation
from workbench.models.checkpoints.ready_quantized import (
    config_of,
    folder_format,
    read_unpacked,
    unpacked_format,
    unquantized,
)
from workbench.models.checkpoints.state_dict import (
    existing_files,
    read_folder,
    read_json_object,
    tensor_names,
)
from workbench.models.checkpoints.supported_models import (
    check_head,
    check_kind,
    check_known,
)
from workbench.models.checkpoints.tensor_layouts import with_llama_names
from workbench.models.checkpoints.validation import differing, listed
from workbench.models.device import loading_options
from workbench.models.gguf.header import check_header
from workbench.models.quantization import skip_multiplied_directly
from workbench.models.quantized_experts import has_experts, with_experts
from workbench.weights.unpacking.unpacked_rows import Format

CLASSES: dict[Task, Any] = {
    Task.causal_lm: AutoModelForCausalLM,
    Task.sequence_classification: AutoModelForSequenceClassification,
}
MAX_PARAMETERS_PER_BYTE = 8
"""Largest number of parameters per byte of a weight file, more than any quantization has."""
NEW_PARAMETERS = 10_000_000
"""Number of parameters that may be missing in the file, such as those of a new head."""
LOAD_ERRORS = (*BROKEN, OSError, ImportError, SafetensorError)
"""Exceptions of transformers for files that it can't load."""

logger = logging.getLogger("workbench")


def read_config(path: Path, *, as_stored: bool = True) -> PreTrainedConfig:
    """Read the configuration at `path`, a folder or a `.gguf` file.

    Args:
        path: The folder or file.
        as_stored: Whether the configuration is for weights that bitsandbytes quantized, as they are stored;
            else for unpacked ones, as always for other methods.

    Raises:
        CheckpointError: Transformers can't read the configuration, a file is damaged, or the weights can't be
            unpacked.
        ConfigError: The model needs code of its own, and the user doesn't trust it.
    """
    where = {"gguf_file": path.name} if path.is_file() else {}
    check_files(path)
    trusted = {"trust_remote_code": runs_code(path)}
    file = path / "config.json"
    if file.is_file() and not trusted["trust_remote_code"] and not is_chatglm(path):
        check_known(read_json_object(file), file)
    is_unpacked = unpacked_format(path, as_stored) is not None
    try:
        with quiet_transformers():
            if is_unpacked or is_chatglm(path):
                stored = read_json_object(file)
                plain = unquantized(stored) if is_unpacked else stored
                is_own = is_chatglm(path)
                config = chatglm.glm_config(plain, file) if is_own else config_of(plain)
            else:
                config = AutoConfig.from_pretrained(path.parent if where else path, **where, **trusted)
    except LOAD_ERRORS as error:
        raise _unreadable(path, error) from error
    check_sizes(config.to_dict(), path)
    return config


def check(path: Path, task: Task) -> None:
    """Check that transformers can load the model at `path` for the task, without reading the weights' values.

    Raises:
        ConfigError, CheckpointError: As in `load`.
    """
    config = checked_config(path, task)
    _check_weights(path, task, config)


def checked_config(path: Path, task: Task, *, as_stored: bool = True) -> PreTrainedConfig:
    """Read the configuration at `path`, and check that the model type supports the task.

    `as_stored` is that of `read_config`.

    Raises:
        ConfigError, CheckpointError: As in `read_config`.
        CheckpointError: Transformers has no class for the task, or the model type can't do it.
    """
    config = read_config(path, as_stored=as_stored)
    if not runs_code(path):
        check_kind(config, path, task)
    return config


def load(
    path: Path, model: ModelConfig, quantization: QuantizationConfig, num_labels: int | None
) -> PreTrainedModel:
    """Load the model at `path`, a folder or a `.gguf` file, onto the device of the section `model`.

    Weights of a new classification head are drawn from torch's global random state.

    Args:
        path: The folder or file.
        model: Section `model` of the configuration: task, dtype, device and attention.
        quantization: Section `quantization` of the configuration.
        num_labels: Outputs of a classifier; None: the checkpoint's.

    Raises:
        ConfigError: The model needs code of its own, and the user doesn't trust it.
        CheckpointError: Transformers can't load the model, or tensors are missing or have another shape.
    """
    as_stored = quantization.method is QuantizationMethod.none
    config = checked_config(path, model.task, as_stored=as_stored)
    if num_labels is not None:
        config.num_labels = num_labels
    _check_weights(path, model.task, config)
    own = torch.bfloat16 if path.is_file() else config.dtype
    options = loading_options(model, quantization, own if isinstance(own, torch.dtype) else torch.float32)
    skip_multiplied_directly(options["quantization_config"], config.model_type)
    if has_experts(config):
        options["quantization_config"] = with_experts(options["quantization_config"])
    try:
        if path.is_file():
            return _from_gguf(path, CLASSES[model.task], config, options)
        loader, source = _source(path, model.task, config, unpacked_format(path, as_stored))
        loaded, report = loader.from_pretrained(
            **{"config": config, **source},
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except LOAD_ERRORS as error:
        raise _unreadable(path, error) from error
    _check_report(
        path, report, loaded.base_model_prefix if model.task is Task.sequence_classification else ""
    )
    try:
        note = settle_generation(loaded.generation_config) if loaded.can_generate() else ""
    except ValueError as error:
        raise _unreadable(path, error) from error
    if note:
        logger.info("%s: %s", path, note)
    return cast(PreTrainedModel, loaded)


def is_chatglm(path: Path) -> bool:
    """Return whether the model at `path` is a ChatGLM that transformers' class Glm runs.

    False if the Python code in its folder is run instead. A damaged config.json raises CheckpointError.
    """
    file = path / "config.json"
    is_one = file.is_file() and read_json_object(file).get("model_type") == chatglm.MODEL_TYPE
    return is_one and not runs_code(path)


def _source(
    path: Path, task: Task, config: PreTrainedConfig, kind: Format | None
) -> tuple[Any, dict[str, Any]]:
    """Return the class that loads a model, and from_pretrained's arguments that locate its weights.

    `kind` is the format of weights that are unpacked.
    """
    if not is_chatglm(path) and kind is None:
        where = {"pretrained_model_name_or_path": path, "trust_remote_code": runs_code(path)}
        return CLASSES[task], where
    is_given = (path / GENERATION_FILE).is_file()
    tensors: Mapping[str, Any] = read_folder(path) if kind is None else read_unpacked(path, kind)
    with torch.device("meta"):
        empty = CLASSES[task].from_config(config)  # of a composite configuration, the part for texts
    return type(empty), {
        "pretrained_model_name_or_path": None,
        "config": empty.config,
        "state_dict": with_llama_names(chatglm.MODEL_TYPE, config, tensors, path)
        if is_chatglm(path)
        else tensors,
        "generation_config": GenerationConfig.from_pretrained(path) if is_given else None,
    }


def runs_code(path: Path) -> bool:
    """Return whether to run Python code in the model's folder; see `runs_model_code`, also for its errors."""
    file = path / "config.json"
    return file.is_file() and runs_model_code(read_json_object(file), file)


def check_files(path: Path) -> None:
    """Check the sizes that a GGUF file or a config.json announces, and the names of a folder's weight files.

    Raises:
        CheckpointError: A size is larger than the file or implausible, or an index names files outside the
            folder.
    """
    if path.is_file():
        check_header(path)
        return
    if (path / "config.json").is_file():
        check_sizes(read_json_object(path / "config.json"), path / "config.json")
    existing_files(path)


def _check_weights(path: Path, task: Task, config: PreTrainedConfig) -> None:
    """Refuse damaged files, pickles with code, a missing head, and too many configured parameters.

    Transformers would initialize missing tensors of any size at random.

    Raises:
        CheckpointError: A file or the configuration is refused.
    """
    files = [path] if path.is_file() else existing_files(path)
    names = [] if path.is_file() else [name for file in files for name in tensor_names(file)]
    if files and (kind := folder_format(path)) is not None:
        names = list(read_unpacked(path, kind))
    num_bytes = sum(file.stat().st_size for file in files)
    try:
        with torch.device("meta"), quiet_transformers():
            empty = CLASSES[task].from_config(config, trust_remote_code=runs_code(path))
    except LOAD_ERRORS:
        return  # loading raises the error
    count = sum(parameter.numel() for parameter in empty.parameters())
    if num_bytes and count > MAX_PARAMETERS_PER_BYTE * num_bytes + NEW_PARAMETERS:
        raise CheckpointError(
            f"{path}: does not fit, config.json gives {count:,} parameters, "
            f"the weights have {num_bytes:,} bytes"
        )
    if task is Task.causal_lm and files and not path.is_file():
        check_head(path, names, empty)


def _from_gguf(path: Path, loader: Any, config: PreTrainedConfig, options: dict[str, Any]) -> PreTrainedModel:
    """Load a GGUF file: dequantize it, then quantize it if requested (transformers can't do both at once)."""
    dequantize_options = {**options, "quantization_config": GgufConfig(dequantize=True)}
    dequantized = loader.from_pretrained(
        path.parent, gguf_file=path.name, config=config, **dequantize_options
    )
    if options["quantization_config"] is None:
        return cast(PreTrainedModel, dequantized)
    return cast(
        PreTrainedModel,
        type(dequantized).from_pretrained(
            None, config=config, state_dict=dequantized.state_dict(), **options
        ),
    )


def _check_report(path: Path, report: dict[str, Any], base: str) -> None:
    """Check transformers' loading report: no tensor may be missing or have another shape.

    Missing tensors without the prefix `base` are a classifier's new head, and allowed.

    Raises:
        CheckpointError: Tensors are missing or have another shape.
    """
    missing = sorted(name for name in report["missing_keys"] if name.startswith(base))
    misshapen = [differing(*mismatch) for mismatch in sorted(report["mismatched_keys"])]
    faults = [listed("missing", missing), listed("with another shape", misshapen)]
    if any(faults):
        raise CheckpointError(f"{path}: does not fit, {'; '.join(filter(None, faults))}")
    if extra := sorted(name for name in report["unexpected_keys"] if name.startswith(base)):
        logger.warning("%s: %s", path, listed("ignored, since the architecture doesn't have them", extra))


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())
    return CheckpointError(f"{path}: transformers can't load it: {shorten(reason, 300, placeholder=' ...')}")
