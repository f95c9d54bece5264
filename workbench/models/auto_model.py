"""Any Hugging Face model as transformers knows it. Code that comes with it runs only if it is trusted."""

import logging
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from workbench.config.model import ModelConfig, Task
from workbench.config.quantization import QuantizationConfig
from workbench.contexts import quiet_transformers
from workbench.errors import CheckpointError
from workbench.models.checkpoints.announced_sizes import check_sizes
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.checkpoints.foreign_code import runs_model_code
from workbench.models.checkpoints.generation_config import settle_generation
from workbench.models.checkpoints.state_dict import existing_files, read_json_object, tensor_names
from workbench.models.checkpoints.supported_models import (
    check_head,
    check_kind,
    check_known,
    check_not_quantized,
)
from workbench.models.checkpoints.validation import differing, listed
from workbench.models.device import loading_options
from workbench.models.gguf.header import check_header

CLASSES: dict[Task, Any] = {
    Task.causal_lm: AutoModelForCausalLM,
    Task.sequence_classification: AutoModelForSequenceClassification,
}
PER_BYTE = 8
"""Parameters that a byte of a file may stand for: more than any quantization leaves."""
SPARE = 10_000_000
"""Parameters that may be new, such as a head."""
LOAD_ERRORS = (*BROKEN, OSError, ImportError, SafetensorError)

logger = logging.getLogger("workbench")


def read_config(path: Path) -> PreTrainedConfig:
    """The configuration at `path`, a folder or a `.gguf` file.

    Raises:
        CheckpointError: transformers can't read it.
    """
    where = {"gguf_file": path.name} if path.is_file() else {}
    check_files(path)
    trusted = {"trust_remote_code": runs_code(path)}
    file = path / "config.json"
    if file.is_file():
        check_not_quantized(read_json_object(file), file)
        if not trusted["trust_remote_code"]:
            check_known(read_json_object(file), file)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path.parent if where else path, **where, **trusted)
    except LOAD_ERRORS as error:
        raise _unreadable(path, error) from error
    check_sizes(config.to_dict(), path)
    return cast(PreTrainedConfig, config)


def check(path: Path, task: Task) -> None:
    """Find what would stop `load`, in seconds: of the weights only names and sizes are read.

    Raises:
        CheckpointError: as `load` does.
    """
    config = checked_config(path, task)
    _check_weights(path, task, config)


def checked_config(path: Path, task: Task) -> PreTrainedConfig:
    """The configuration at `path`, of a kind of model that the task can be done with.

    Raises:
        CheckpointError: transformers can't read it, or has no class for it.
    """
    config = read_config(path)
    if not runs_code(path):
        check_kind(config, path, task)
    return config


def load(
    path: Path, model: ModelConfig, quantization: QuantizationConfig, num_labels: int | None
) -> PreTrainedModel:
    """The model at `path`, a folder or a `.gguf` file.

    Raises:
        CheckpointError: transformers can't load it, or tensors are missing or of another shape.
    """
    config = checked_config(path, model.task)
    if num_labels is not None:
        config.num_labels = num_labels
    _check_weights(path, model.task, config)
    own = torch.bfloat16 if path.is_file() else config.dtype
    options = loading_options(model, quantization, own if isinstance(own, torch.dtype) else torch.float32)
    try:
        if path.is_file():
            return _from_gguf(path, CLASSES[model.task], config, options)
        loaded, report = CLASSES[model.task].from_pretrained(
            path,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=runs_code(path),
            **options,
        )
    except LOAD_ERRORS as error:
        raise _unreadable(path, error) from error
    _check(path, report, loaded.base_model_prefix if model.task is Task.sequence_classification else "")
    try:
        note = settle_generation(loaded.generation_config) if loaded.can_generate() else ""
    except ValueError as error:
        raise _unreadable(path, error) from error
    if note:
        logger.info("%s: %s", path, note)
    return cast(PreTrainedModel, loaded)


def runs_code(path: Path) -> bool:
    """Whether the modules that come with the model at `path` are run; see `runs_model_code`."""
    file = path / "config.json"
    return file.is_file() and runs_model_code(read_json_object(file), file)


def check_files(path: Path) -> None:
    """Hold what the files of a model announce against what they are.

    Raises:
        CheckpointError: they announce more, or name files elsewhere.
    """
    if path.is_file():
        check_header(path)
        return
    if (path / "config.json").is_file():
        check_sizes(read_json_object(path / "config.json"), path / "config.json")
    existing_files(path)


def _check_weights(path: Path, task: Task, config: PreTrainedConfig) -> None:
    """Refuse damaged files, pickles with code, a missing head, and a configuration of far more parameters.

    Transformers would draw what is missing at random, in any size.

    Raises:
        CheckpointError: there is such a file, or such a configuration.
    """
    files = [path] if path.is_file() else existing_files(path)
    if not path.is_file():
        for file in files:
            tensor_names(file)
    num_bytes = sum(file.stat().st_size for file in files)
    try:
        with torch.device("meta"), quiet_transformers():
            empty = CLASSES[task].from_config(config, trust_remote_code=runs_code(path))
    except LOAD_ERRORS:
        return  # loading says what is wrong
    count = sum(parameter.numel() for parameter in empty.parameters())
    if num_bytes and count > PER_BYTE * num_bytes + SPARE:
        raise CheckpointError(
            f"{path}: does not fit, {count:,} parameters by its configuration, {num_bytes:,} bytes of weights"
        )
    if task is Task.causal_lm and files and not path.is_file():
        check_head(path, files, empty)


def _from_gguf(path: Path, loader: Any, config: PreTrainedConfig, options: dict[str, Any]) -> PreTrainedModel:
    """The model of a GGUF file: unpacked, then quantized anew if asked for; both at once is refused."""
    whole = {**options, "quantization_config": GgufConfig(dequantize=True)}
    unpacked = loader.from_pretrained(path.parent, gguf_file=path.name, config=config, **whole)
    if options["quantization_config"] is None:
        return cast(PreTrainedModel, unpacked)
    return cast(
        PreTrainedModel,
        type(unpacked).from_pretrained(None, config=config, state_dict=unpacked.state_dict(), **options),
    )


def _check(path: Path, report: dict[str, Any], base: str) -> None:
    """Look at what transformers found; tensors outside the `base` of a classifier are its new head.

    Raises:
        CheckpointError: tensors are missing or of another shape.
    """
    missing = sorted(name for name in report["missing_keys"] if name.startswith(base))
    misshapen = [differing(*mismatch) for mismatch in sorted(report["mismatched_keys"])]
    faults = [listed("missing", missing), listed("of another shape", misshapen)]
    if any(faults):
        raise CheckpointError(f"{path}: does not fit, {'; '.join(filter(None, faults))}")
    if extra := sorted(name for name in report["unexpected_keys"] if name.startswith(base)):
        logger.warning("%s: %s", path, listed("left out, the architecture has no place for them", extra))


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())
    return CheckpointError(f"{path}: transformers can't load it: {shorten(reason, 300, placeholder=' ...')}")
