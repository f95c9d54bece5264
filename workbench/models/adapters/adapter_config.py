"""Reads adapter folders in peft's format: configuration, tensors, label names, chat template, end tokens."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from peft import PeftConfig, PeftType, load_peft_weights
from safetensors import SafetensorError
from torch import Tensor

from workbench.errors import CheckpointError, first_line
from workbench.files import add_file
from workbench.models.adapters.base_copies import base_copies, check_base_copies
from workbench.models.adapters.config_bounds import check_patterns
from workbench.models.adapters.config_fields import check_fields
from workbench.models.checkpoints import generation_config
from workbench.models.checkpoints.hub import locate_adapter
from workbench.models.checkpoints.state_dict import read_json_object, tensor_names
from workbench.models.stored import Stored
from workbench.reading_once import computed_once
from workbench.run_dir import read_json, write_json
from workbench.weights.file_tensors import file_tensors

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
LABELS_FILE = "labels.json"
TEMPLATE_FILE = "chat_template.jinja"
MAX_TENSORS = 200_000
"""Largest number of tensors in an adapter file; reading each takes time, and the largest models have half
as many layers."""
INITS_WITHOUT_BASE_CHANGE = ("gaussian", "orthogonal", "eva")
"""peft's names of initializations that leave the base's weights unchanged."""
DRAWN_AGAIN = ("pissa_niter_", "corda", "lora_ga", "loftq")
"""Prefixes of peft's names of initializations that change the base by values which another load doesn't
reproduce."""
CHANGING_FIELDS = ("layer_replication", "kasa_config")
"""Fields of adapters that repeat the base's layers, or cut the least singular values off its weights."""

HEAD = "score"
"""Name of the classification head: random in the base, so all its weights are trained and saved with the
adapter."""


def read_config(path: str | Path) -> PeftConfig:
    """Read adapter_config.json of the adapter at `path`, a folder or hub id, as a new peft configuration.

    The name of the base in it is cleared.

    Raises:
        CheckpointError: There is no adapter, a field has a wrong value, or its peft type adapts no layers.
    """
    file = _file(path, CONFIG_FILE)
    description = read_json_object(file)
    check_fields(description, file)
    description.pop("runtime_config", None)  # settings of the process that saved the adapter
    try:
        config = PeftConfig.from_peft_type(**description)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the adapter can't be read: {first_line(error)}") from error
    if config.is_prompt_learning:
        raise CheckpointError(
            f"{path}: {config.peft_type.value} trains a prompt and adapts no layers (an adapter such as LoRA)"
        )
    check_patterns(config, file)
    config.base_model_name_or_path = None
    return cast(PeftConfig, config)


def changes_base(path: str | Path) -> bool:
    """Return whether attaching or training the adapter at `path` changes weights of the base itself.

    If it does, disabling the adapter doesn't restore them. `path` is a folder or hub id.

    Raises:
        CheckpointError: As in `read_config`.
    """
    config = read_config(path)
    init = getattr(config, "init_lora_weights", True)
    return (
        (isinstance(init, str) and init not in INITS_WITHOUT_BASE_CHANGE)
        or getattr(config, "bias", "none") != "none"
        or any(getattr(config, name, None) for name in CHANGING_FIELDS)
    )


def check_restorable(config: PeftConfig, path: str | Path, *, trainable: bool = False) -> None:
    """Check that loading the adapter at `path` gives the trained model, and that it can be trained further.

    Some initializations subtract their initial values from the base, and each load of the adapter draws other
    values, or needs the data or the unquantized weights that the first values were computed from. A finished
    AdaLoRA has no ranks left to remove.

    Args:
        config: The adapter's configuration.
        path: The adapter, for messages.
        trainable: Whether the adapter is loaded for more training; else that isn't checked.

    Raises:
        CheckpointError: A load would give another model, or AdaLoRA is to be trained further.
    """
    if trainable and config.peft_type is PeftType.ADALORA:
        raise CheckpointError(
            f"{path}: ADALORA can't be trained further, since its training has removed the other ranks "
            "(recipe=extract makes it a LoRA, which can)"
        )
    init = getattr(config, "init_lora_weights", True)
    if isinstance(init, str) and init.startswith(DRAWN_AGAIN):
        raise CheckpointError(
            f"{path}/{CONFIG_FILE}: init_lora_weights={init!r} changes the base by start values that a load "
            "draws anew, or needs data or the unquantized base for, so the trained model can't be restored "
            "(save it with peft's path_initial_model_for_weight_conversion, which gives a plain LoRA)"
        )


def check_finite(path: str | Path, name: str, values: Tensor) -> None:
    """Raise CheckpointError if the tensor `name` of the adapter at `path` has NaN or infinite `values`."""
    if not bool(values.float().isfinite().all()):
        raise CheckpointError(
            f"{path}: {name} has NaN or infinite values (damaged, or its training diverged)"
        )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return name in the file -> tensor on the CPU, for the adapter at `path`, a folder or hub id.

    Copies of the base's embeddings, which peft may save with an adapter, are left out.

    Raises:
        CheckpointError: The safetensors file is missing or damaged, or has over MAX_TENSORS tensors.
    """
    file = _file(path, WEIGHTS_FILE)
    if (count := len(tensor_names(file))) > MAX_TENSORS:
        raise CheckpointError(f"{file}: {count:,} tensors (at most {MAX_TENSORS:,})")
    try:
        tensors = load_peft_weights(str(file.parent), device="cpu")
        copies = base_copies(tensors, read_config(path))
        return {name: tensor for name, tensor in tensors.items() if name not in copies}
    except (ValueError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {WEIGHTS_FILE} can't be read: {first_line(error)}") from error


def check_mergeable(path: str | Path) -> None:
    """Raise CheckpointError if the adapter at `path`, a folder or hub id, repeats layers, or can't be read.

    Repeated layers of the base can't be merged.
    """
    if getattr(read_config(path), "layer_replication", None):
        raise CheckpointError(
            f"{path}: can't be merged, layer_replication repeats layers of the base, and each copy has "
            "an update of its own (use it as an adapter)"
        )


def check_copies(path: str | Path, weight_of: Callable[[str], Stored | None]) -> None:
    """Check that the copies of the base's embeddings in the file of the adapter at `path` equal the base's.

    Args:
        path: Folder or hub id of the adapter.
        weight_of: Returns the base's weight of a name; None if the base has no such weight.

    Raises:
        CheckpointError: An embedding differs, so that peft would put another one into the base; or there is
            no adapter, or it is damaged.
    """
    config = read_config(path)  # first, since it names what is missing in a folder that isn't an adapter
    check_base_copies(path, _file(path, WEIGHTS_FILE), config, weight_of)


def num_labels(path: str | Path) -> int | None:
    """Return the number of labels of an adapter's classification head; None if it has no such head.

    `path` is a folder or hub id.

    Raises:
        CheckpointError: There is no adapter at `path`, or its weight file is damaged.
    """
    stored = file_tensors([_file(path, WEIGHTS_FILE)])
    heads = [tensor for name, tensor in stored.items() if name.endswith(f".{HEAD}.weight")]
    return heads[0].shape[0] if heads else None


def label_names(path: str | Path) -> list[str] | None:
    """Read the label names of the adapter at `path`, a folder or hub id, in the order of the label ids.

    They are in labels.json; None if it is missing: no classifier's adapter, or one of another tool.

    Raises:
        CheckpointError: There is nothing at `path`, the download failed, or the file is damaged.
    """
    file = locate_adapter(path) / LABELS_FILE
    if not file.is_file():
        return None
    try:
        names = read_json(file)
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON: {first_line(error)}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{file}: {names!r:.60} is not a list of label names")
    return names


def fingerprint(path: str | Path) -> str:
    """Return the SHA-256 of the adapter at `path`, a folder or hub id.

    It covers configuration and weights, and chat template and generation config if the folder has them.

    Raises:
        CheckpointError: There is no adapter, or its weight file is damaged.
    """
    files = [_file(path, CONFIG_FILE), _file(path, WEIGHTS_FILE)]
    tensor_names(files[1])  # refuses a file that is longer than its header says
    optional = [locate_adapter(path) / name for name in (generation_config.FILE, TEMPLATE_FILE)]
    files += [file for file in optional if file.is_file()]
    return computed_once("adapter", locate_adapter(path), files, lambda: _sha256(files))


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        add_file(digest, file)
    return digest.hexdigest()


def chat_template(path: str | Path) -> str | None:
    """Read the chat template that the adapter at `path`, a folder or hub id, was trained with.

    A hub id is downloaded once. None if there is no chat_template.jinja.

    Raises:
        CheckpointError: There is nothing at `path`, the download failed, or the file isn't UTF-8.
    """
    file = locate_adapter(path) / TEMPLATE_FILE
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: not UTF-8 text, {first_line(error)}") from error


def end_tokens(path: str | Path) -> list[int]:
    """Read the ids of the tokens that end the answers of the adapter at `path`, a folder or hub id.

    They are those of its generation_config.json; empty if the file is missing.

    Raises:
        CheckpointError: There is nothing at `path`, the download failed, or the file is damaged.
    """
    return generation_config.read_ends(locate_adapter(path))


def _file(path: str | Path, name: str) -> Path:
    """Return the path of an adapter's file.

    Raises:
        CheckpointError: The file is missing.
    """
    file = locate_adapter(path) / name
    if not file.is_file():
        hint = " (pickles are not read: save the adapter as safetensors)" if name == WEIGHTS_FILE else ""
        raise CheckpointError(f"{path}: not an adapter, {name} is missing{hint}")
    return file


def tidy_config(path: Path, base_name: str | None) -> None:
    """Rewrite the file adapter_config.json at `path`: set the base's name, and sort lists of module names.

    The file must exist, as a JSON object.

    Their order has no meaning, and sorted lists give equal adapters equal files. A `base_name` of None or ""
    is written as null.
    """
    config = read_json(path)
    for key in ("target_modules", "modules_to_save", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(set(config[key]))
    config["base_model_name_or_path"] = base_name or None
    write_json(path, config)
