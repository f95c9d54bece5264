"""Groups the tensors of an adapter file by their effect: layer updates, replaced weights, embedding rows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from peft import PeftConfig, PeftType
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.models.adapters import adapter_config
from workbench.models.checkpoints.model_folder import HEADS, canonical

ROOT = "base_model.model."
"""Prefix of tensor names in an adapter file, except for tensors that all layers share."""
FROM_BASE = (PeftType.ADAMSS, PeftType.FROD)
"""Types whose files lack matrices that peft computes from the base's weights."""
MERGES = "recipe=merge merges and proves it"
WAYS_OUT = {
    "init_lora_weights": "peft's path_initial_model_for_weight_conversion saves it as a plain LoRA",
    "layer_replication": "use it as an adapter",
}
"""Field of an adapter's configuration -> what to do with an adapter that sets it; else `MERGES`."""
TOKEN_ROWS = ".token_adapter.trainable_tokens_delta"
"""Suffix of the names of trained embedding rows."""
NORM = ".ln_tuning_layers."
"""What LN tuning inserts before the last part of the name of a trained norm's weight or bias."""


@dataclass
class AdapterTensors:
    """Tensors of an adapter file, grouped by how they change the base.

    A canonical name is that of a tensor in the base, without prefixes of model classes (`canonical`).
    """

    updates: dict[str, Tensor] = field(default_factory=dict)
    """Name in the file -> tensor that is part of a layer's update, or of all layers' updates."""
    modules: dict[str, str] = field(default_factory=dict)
    """Canonical name of each updated weight -> name of its module in the adapter file."""
    replaced: dict[str, Tensor] = field(default_factory=dict)
    """Canonical name -> tensor that replaces the base's tensor (modules_to_save, biases, norms)."""
    rows: dict[str, tuple[list[int], Tensor]] = field(default_factory=dict)
    """Canonical name of an embedding -> token ids, and the rows that replace the base's rows."""
    unknown: list[str] = field(default_factory=list)
    """Names in the file that belong to no module of the base."""


def sort_tensors(
    weights: Mapping[str, Tensor], config: PeftConfig, modules: Collection[str]
) -> AdapterTensors:
    """Group an adapter's tensors by how they change the base.

    Args:
        weights: Name in the adapter file -> tensor.
        config: The adapter's configuration.
        modules: Canonical names of the base's modules.
    """
    tensors = AdapterTensors()
    for key, tensor in weights.items():
        if not key.startswith(ROOT):
            tensors.updates[key] = tensor
            continue
        inner = key.removeprefix(ROOT)
        module, _, last = inner.rpartition(".")
        layer = _module_of(inner, modules)
        if NORM in inner:
            tensors.replaced[canonical(inner.replace(NORM, "."))] = tensor
        elif last in ("weight", "bias") and (layer == module or (not layer and _is_saved(module, config))):
            tensors.replaced[canonical(inner)] = tensor
        elif inner.endswith(TOKEN_ROWS):
            module = inner.removesuffix(TOKEN_ROWS)
            tensors.rows[f"{canonical(module)}.weight"] = (_token_ids(config, module), tensor)
        elif layer:
            tensors.updates[key] = tensor
            tensors.modules[f"{canonical(layer)}.weight"] = layer
        else:
            tensors.unknown.append(key)
    return tensors


def _module_of(name: str, modules: Collection[str]) -> str:
    """Return the longest prefix of a tensor's name that is a module of the base; empty if none is."""
    words = name.split(".")
    beginnings = (".".join(words[:end]) for end in range(len(words) - 1, 0, -1))
    return next((beginning for beginning in beginnings if canonical(beginning) in modules), "")


def _is_saved(module: str, config: PeftConfig) -> bool:
    """Return whether a module is one that the adapter stores in full, such as a new classification head.

    The base may lack the module.
    """
    saved = {*(getattr(config, "modules_to_save", None) or []), *HEADS}
    return bool(saved & set(module.split("."))) and "lora_" not in module


def _token_ids(config: PeftConfig, module: str) -> list[int]:
    indices = getattr(config, "trainable_token_indices", None) or []
    if isinstance(indices, dict):
        indices = next((ids for name, ids in indices.items() if f".{module}".endswith(f".{name}")), [])
    return list(indices)


def check_determined(path: str | Path, config: PeftConfig) -> None:
    """Refuse an adapter whose updates can't be computed from its file and the base's weights alone.

    Raises:
        CheckpointError: The adapter at `path` is one; the message names the setting, and a way out.
    """
    if config.peft_type in FROM_BASE:
        kind = PeftType(config.peft_type).value
        raise CheckpointError(
            f"{path}: {kind} computes matrices from the base's weights when it is loaded, so its file alone "
            f"doesn't give its update ({MERGES})"
        )
    init = getattr(config, "init_lora_weights", True)
    from_weights = isinstance(init, str) and init not in adapter_config.INITS_WITHOUT_BASE_CHANGE
    for name, value in (
        ("init_lora_weights", init if from_weights else None),
        *((name, getattr(config, name, None)) for name in adapter_config.CHANGING_FIELDS),
        ("target_parameters", getattr(config, "target_parameters", None)),
        (
            "save_precomputed_indices",
            "false" if not getattr(config, "save_precomputed_indices", True) else None,
        ),
    ):
        if value:
            raise CheckpointError(
                f"{path}: {name}={value!r:.60} changes the base in ways that the adapter's file doesn't say, "
                f"so a merge can't be compared with it ({WAYS_OUT.get(name, MERGES)})"
            )
