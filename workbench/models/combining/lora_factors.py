"""Reads a LoRA adapter as matrices A and B of each layer; refuses adapters that have more than A and B."""

import re
from dataclasses import dataclass, fields
from typing import cast

import torch
from peft import LoraConfig, PeftConfig, PeftType
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.models.adapters import adapter_config
from workbench.models.adapters.base_copies import WRAPPED, base_copies
from workbench.models.adapters.config_bounds import AS_MATCHED
from workbench.models.checkpoints.hub import locate_adapter
from workbench.models.checkpoints.state_dict import read_json_object, tensor_names

PREFIX = "base_model.model."
"""Beginning of all names in an adapter file, before the layer's name in the base."""
SUFFIXES = {
    ".lora_A.weight": (False, "down"),
    ".lora_B.weight": (False, "up"),
    ".lora_embedding_A": (True, "down"),
    ".lora_embedding_B": (True, "up"),
}
"""End of a tensor's name in the file -> (whether the layer is an embedding, which matrix the tensor is)."""

MERGE_FIRST = "merge it into a model of its own"
REFUSED: dict[str, str] = {
    "use_dora": f"DoRA's magnitudes belong to its own sum with the base ({MERGE_FIRST})",
    "modules_to_save": f"it trains whole modules, which have no A and B ({MERGE_FIRST})",
    "trainable_token_indices": f"it trains rows of an embedding, which have no A and B ({MERGE_FIRST})",
    "lora_bias": f"it trains biases ({MERGE_FIRST})",
    "target_parameters": f"it adapts parameters instead of layers ({MERGE_FIRST})",
    "layer_replication": "it repeats layers of the base",
}
"""Field of an adapter's configuration -> reason why an adapter that sets it can't be combined."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """LoRA matrices of one layer.

    The layer's weight is updated by scale * up @ down, the weight of an embedding by the transpose.
    """

    down: Tensor
    """A: (rank, in), float32."""
    up: Tensor
    """B: (out, rank), float32."""
    scale: float
    is_embedding: bool = False

    @property
    def rank(self) -> int:
        """Return the number of rows of A."""
        return self.down.shape[0]


@dataclass(frozen=True, kw_only=True)
class LoraAdapter:
    """A LoRA adapter as matrices A and B of each layer."""

    path: str
    """Folder or hub id, as given to `read_lora`."""
    base_name: str | None
    """Name of the base in adapter_config.json; None if it names none."""
    task_type: str | None
    """Task in adapter_config.json, such as CAUSAL_LM; None if it names none."""
    layers: dict[str, Factors]
    """Name of a layer in the base -> its matrices."""


def read_lora(path: str, key: str = "merge.adapters", use: str = "combined") -> LoraAdapter:
    """Read the adapter at `path`, a folder or hub id.

    Args:
        path: The adapter.
        key: Key of the configuration that an error message names.
        use: What the caller does with the adapter, for messages that it "can't be ...".

    Raises:
        CheckpointError: The adapter is damaged, isn't a LoRA, or has more than A and B of base layers.
    """
    config = adapter_config.read_config(path)
    if reason := _reason_against(config, path):
        raise CheckpointError(f"{key}: {path!r} can't be {use}: {reason}")
    lora, folder = cast(LoraConfig, config), locate_adapter(path)
    description = read_json_object(folder / adapter_config.CONFIG_FILE)
    weights = adapter_config.read_weights(path)
    names = tensor_names(folder / adapter_config.WEIGHTS_FILE)
    if own := [name for name in base_copies(names, config) if not name.endswith(WRAPPED)]:
        raise CheckpointError(
            f"{key}: {path!r} can't be {use}: {own[0]} is not LoRA's A or B (save it with "
            "save_embedding_layers=False, if the base has this weight)"
        )
    matrices: dict[str, dict[str, Tensor]] = {}
    embeddings: set[str] = set()
    for name, tensor in sorted(weights.items()):
        ending = next((end for end in SUFFIXES if name.endswith(end)), None)
        if ending is None or not name.startswith(PREFIX):
            raise CheckpointError(f"{key}: {path!r} can't be {use}: {name} is not LoRA's A or B")
        is_embedding, kind = SUFFIXES[ending]
        layer = name.removeprefix(PREFIX).removesuffix(ending)
        matrices.setdefault(layer, {})[kind] = _checked(tensor, name, path)
        embeddings |= {layer} if is_embedding else set()
    return LoraAdapter(
        path=path,
        base_name=description.get("base_model_name_or_path") or None,
        task_type=description.get("task_type"),
        layers={
            layer: _factors(pair, layer, layer in embeddings, lora, path) for layer, pair in matrices.items()
        },
    )


def layer_scale(config: LoraConfig, layer: str, rank: int) -> float:
    """Return the factor on a layer's up @ down as peft computes it: alpha / rank, for rsLoRA alpha / √rank.

    `layer` is the layer's full name, by which alpha_pattern may give another alpha.
    """
    pattern = AS_MATCHED["alpha_pattern"]
    alpha_pattern = config.alpha_pattern or {}
    alphas = (alpha for key, alpha in alpha_pattern.items() if re.match(pattern.format(key), layer))
    return float(next(alphas, config.lora_alpha)) / (rank**0.5 if config.use_rslora else rank)


def _reason_against(config: PeftConfig, path: str) -> str | None:
    """Return why an adapter can't be combined by its matrices A and B; None if it can."""
    if config.peft_type is not PeftType.LORA:
        return f"it is {getattr(config.peft_type, 'value', config.peft_type)}, not LoRA ({MERGE_FIRST})"
    for name, reason in REFUSED.items():
        if getattr(config, name, None):
            return reason
    variants = [field.name for field in fields(config) if field.metadata.get("is_lora_variant")]
    if chosen := [name for name in variants if getattr(config, name)]:
        return f"{chosen[0]} makes another function than LoRA's of A and B ({MERGE_FIRST})"
    if adapter_config.changes_base(path):
        init = getattr(config, "init_lora_weights", None)
        cause = f"bias={getattr(config, 'bias', None)!r}" if init is True else f"init_lora_weights={init!r}"
        return (
            f"{cause} changes the base's own weights, which A and B don't describe (save it as plain LoRA "
            "with save_pretrained(path_initial_model_for_weight_conversion=...) of peft)"
        )
    return None


def _factors(
    pair: dict[str, Tensor], layer: str, is_embedding: bool, config: LoraConfig, path: str
) -> Factors:
    """Check and return the matrices of one layer, with their scale.

    Raises:
        CheckpointError: A matrix is missing, or their ranks differ.
    """
    if pair.keys() != {"down", "up"}:
        missing = "A" if "down" not in pair else "B"
        raise CheckpointError(f"{path}: is damaged: {layer} has no lora_{missing}")
    down, up = pair["down"], pair["up"]
    if down.dim() != 2 or up.dim() != 2 or down.shape[0] != up.shape[1]:
        raise CheckpointError(
            f"{path}: {layer}: A is {list(down.shape)} and B {list(up.shape)}, which are "
            "not the matrices of a linear layer or an embedding"
        )
    scale = layer_scale(config, layer, down.shape[0])
    return Factors(down=down, up=up, scale=scale, is_embedding=is_embedding)


def _checked(tensor: Tensor, name: str, path: str) -> Tensor:
    """Return a matrix in float32 after checking that its values are finite floats.

    Raises:
        CheckpointError: The matrix has integers, or NaN or infinite values.
    """
    if not tensor.is_floating_point():
        raise CheckpointError(f"{path}: {name} has the dtype {tensor.dtype} (only floating point numbers)")
    if not bool(tensor.float().isfinite().all()):
        raise CheckpointError(
            f"{path}: {name} has NaN or infinite values (damaged, or its training diverged)"
        )
    return tensor.to(torch.float32)
