"""An adapter's folder in peft's format: its configuration, its tensors, the label names beside them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from peft import PeftConfig, load_peft_weights
from safetensors import SafetensorError
from torch import Tensor

from workbench.errors import CheckpointError, first_line
from workbench.files import add_file
from workbench.models.adapters.config_bounds import check_patterns
from workbench.models.adapters.config_fields import check_fields
from workbench.models.checkpoints import generation_config
from workbench.models.checkpoints.hub import locate_adapter
from workbench.models.checkpoints.state_dict import read_json_object, tensor_names
from workbench.reading_once import computed_once
from workbench.run_dir import read_json, write_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
LABELS_FILE = "labels.json"
TEMPLATE_FILE = "chat_template.jinja"
MAX_TENSORS = 200_000
"""In a file of an adapter; each takes time to read, and the largest models have half as many layers."""
BESIDE_BASE = ("gaussian", "orthogonal", "eva")
"""Starts, by peft's names, that take nothing out of the base's weights."""

HEAD = "score"
"""The classification head: random in the base, so it is trained and saved whole beside the adapter."""


def read_config(path: str | Path) -> PeftConfig:
    """The configuration of the adapter at `path`, a folder or hub id.

    Raises:
        CheckpointError: there is none, or it is of a kind that changes no layers.
    """
    file = _file(path, CONFIG_FILE)
    described = read_json_object(file)
    check_fields(described, file)
    described.pop("runtime_config", None)  # of the process that wrote it
    try:
        config = PeftConfig.from_peft_type(**described)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: no adapter can be read there: {first_line(error)}") from error
    if config.is_prompt_learning:
        raise CheckpointError(f"{path}: {config.peft_type.value} learns a prompt, it is no adapter of layers")
    check_patterns(config, file)
    config.base_model_name_or_path = None
    return cast(PeftConfig, config)


def changes_base(path: str | Path) -> bool:
    """Whether peft changes the base's own weights for this adapter: switched off, it leaves another base."""
    config = read_config(path)
    start = getattr(config, "init_lora_weights", True)
    return (
        (isinstance(start, str) and start not in BESIDE_BASE)
        or getattr(config, "bias", "none") != "none"
        or bool(getattr(config, "layer_replication", None))
    )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of the adapter at `path`, a folder or hub id.

    Raises:
        CheckpointError: there are none, or not in safetensors.
    """
    file = _file(path, WEIGHTS_FILE)
    if (count := len(tensor_names(file))) > MAX_TENSORS:
        raise CheckpointError(f"{file}: {count:,} tensors (at most {MAX_TENSORS:,})")
    try:
        tensors = load_peft_weights(str(file.parent), device="cpu")
        # Beside an adapter of an embedding peft saves the embedding that it sits on.
        return {name: tensor for name, tensor in tensors.items() if ".base_layer." not in name}
    except (ValueError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {WEIGHTS_FILE} can't be read: {first_line(error)}") from error


def num_labels(path: str | Path) -> int | None:
    """How many labels the adapter's classification head knows; None: it has no such head."""
    heads = [tensor for name, tensor in read_weights(path).items() if name.endswith(f".{HEAD}.weight")]
    return heads[0].shape[0] if heads else None


def label_names(path: str | Path) -> list[str] | None:
    """The names of the labels that the adapter was trained with; None: none are written down.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = locate_adapter(path) / LABELS_FILE
    if not file.is_file():
        return None
    try:
        names = read_json(file)
    except ValueError as error:
        raise CheckpointError(f"{file}: no JSON: {first_line(error)}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{file}: no list of names: {names!r:.60}")
    return names


def fingerprint(path: str | Path) -> str:
    """SHA-256 over the adapter's configuration, weights, chat template and end tokens, without its card.

    Raises:
        CheckpointError: there is no adapter, or its file of weights is damaged.
    """
    files = [_file(path, CONFIG_FILE), _file(path, WEIGHTS_FILE)]
    tensor_names(files[1])  # of a file that is longer than its header says nothing is read
    beside = [locate_adapter(path) / name for name in (generation_config.FILE, TEMPLATE_FILE)]
    files += [file for file in beside if file.is_file()]
    return computed_once("adapter", locate_adapter(path), files, lambda: _sha256(files))


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        add_file(digest, file)
    return digest.hexdigest()


def chat_template(path: str | Path) -> str | None:
    """The chat template that the adapter was trained with; None: none lies beside it.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = locate_adapter(path) / TEMPLATE_FILE
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: not UTF-8 text, {first_line(error)}") from error


def end_tokens(path: str | Path) -> list[int]:
    """The tokens that end an answer of the adapter; empty: none are written down."""
    return generation_config.read_ends(locate_adapter(path))


def _file(path: str | Path, name: str) -> Path:
    """A file of the adapter at `path`.

    Raises:
        CheckpointError: it isn't there.
    """
    file = locate_adapter(path) / name
    if not file.is_file():
        only = " (pickles are not read: save it as safetensors)" if name == WEIGHTS_FILE else ""
        raise CheckpointError(f"{path}: is no adapter, it has no {name}{only}")
    return file


def tidy_config(path: Path, base_name: str | None) -> None:
    """Sort the lists whose order means nothing, and name the base as the user did."""
    config = read_json(path)
    for key in ("target_modules", "modules_to_save", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(set(config[key]))
    config["base_model_name_or_path"] = base_name or None
    write_json(path, config)
