"""Finds the copies of the base's embeddings that peft saves with an adapter, and compares them with the base.

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
"""Beginning of all names in an adapter file."""
WRAPPED = ".base_layer.weight"
"""End of the name of a base weight whose layer has an adapter."""


def base_copies(names: Iterable[str], config: PeftConfig) -> dict[str, str]:
    """Return, for each tensor that is a copy of a base weight, name in the adapter file -> name in the base.

    Args:
        names: Names of all tensors in the adapter file.
        config: The adapter's configuration; modules_to_save are weights of the adapter, not copies.
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
    """Check that the copies of the base's embeddings in an adapter's file equal the base's embeddings.

    They are compared in the smaller dtype of the two.

    Args:
        path: The adapter as the user named it, for messages.
        file: The adapter's safetensors file.
        config: The adapter's configuration.
        weight_of: Returns the base's weight of a name; None if the base has no such weight.

    Raises:
        CheckpointError: The base has no such weight, or one of another shape or with other values.
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
    """Return a function from a weight's name to the parameter of `base`; it returns None if there is none.

    Names are those without an adapter, also if `base` has an adapter's layers already.
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
