"""Tells apart the copies of the base's embeddings that peft saves beside an adapter, and compares them.

peft saves the embeddings with an adapter on them, and of a model whose vocabulary was resized; a load puts
them into the base (`save_embedding_layers` of `PeftModel.save_pretrained`).
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from peft import PeftConfig
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from torch import Tensor, nn

from workbench.errors import CheckpointError
from workbench.models.checkpoints.state_dict import tensor_names
from workbench.models.stored import Stored
from workbench.weights.file_tensors import file_tensors

PREFIX = "base_model.model."
WRAPPED = ".base_layer.weight"


def base_copies(names: Iterable[str], config: PeftConfig) -> dict[str, str]:
    """Return name in the adapter file -> name of the base's weight that the tensor is a copy of.

    Args:
        names: Names of the tensors in the adapter file.
        config: Its configuration; modules_to_save are weights of the adapter, not copies.
    """
    saved = tuple(getattr(config, "modules_to_save", None) or ())
    if getattr(config, "ensure_weight_tying", False) and {*saved} & {*EMBEDDING_LAYER_NAMES}:
        saved += tuple(EMBEDDING_LAYER_NAMES)
    copies = {}
    for name in names:
        layer = name.removesuffix(WRAPPED).removesuffix(".weight")
        is_embedding = layer.rpartition(".")[2] in EMBEDDING_LAYER_NAMES and not layer.endswith(saved)
        if name.endswith(WRAPPED) or (name == f"{layer}.weight" and is_embedding):
            copies[name] = f"{layer.removeprefix(PREFIX)}.weight"
    return copies


def check_base_copies(
    path: str | Path, file: Path, config: PeftConfig, weight_of: Callable[[str], Stored | None]
) -> None:
    """Check that the embeddings in an adapter's file are those of the base, so that they can be left aside.

    Args:
        path: The adapter as the user named it.
        file: Its safetensors file.
        config: Its configuration.
        weight_of: Returns the base's weight of this name, None if it has none.

    Raises:
        CheckpointError: An embedding has another shape or other values.
    """
    copies = base_copies(tensor_names(file), config)
    tensors = file_tensors([file]) if copies else {}
    for name, base_name in copies.items():
        weight = weight_of(base_name)
        if weight is None:
            raise CheckpointError(f"{path}: does not fit this model: it has no layer for {name}")
        if reason := _difference(tensors[name], weight):
            raise CheckpointError(
                f"{path}: brings a {base_name} of its own, {reason} (peft puts it into the base: take as "
                "model.path a folder of the base that was saved with this weight)"
            )


def parameters_of(base: nn.Module) -> Callable[[str], Tensor | None]:
    """Return a function from the name of a base's weight to the weight, None if it has none.

    Layers of an adapter may be in the base already.
    """

    def weight_of(name: str) -> Tensor | None:
        layer, _, last = name.rpartition(".")
        for full in (name, f"{layer}.base_layer.{last}"):
            try:
                return base.get_parameter(full)
            except AttributeError:
                continue
        return None

    return weight_of


def _difference(copy: Stored, weight: Stored) -> str:
    """Return how a copy differs from the base's weight, in the dtype of less bytes; empty: it doesn't."""
    rows, base_rows = list(copy.shape), list(weight.shape)
    if rows != base_rows:
        return f"{rows}, and the base's is {base_rows}"
    values, given = copy[...].cpu(), weight[...].detach().cpu()
    dtype = given.dtype if given.element_size() < values.element_size() else values.dtype
    changed = int((~_equal_rows(values.to(dtype), given.to(dtype))).sum())
    return f"with {changed} of {rows[0]} rows unlike the base's" if changed else ""


def _equal_rows(first: Tensor, second: Tensor) -> Tensor:
    return torch.eq(first, second).flatten(1).all(dim=1)
