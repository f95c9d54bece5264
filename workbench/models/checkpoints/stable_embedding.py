"""Folds the stable embedding into plain embedding rows, for export as a LLaMA, and restores it.

The layer norm after Open-Llama's embedding normalizes each row alone, so its output depends on the token
only: a table of normalized rows is the same model without the norm. A shared head then becomes a tensor of
its own, with the rows before the norm. What else is needed to restore the model is written to config.json
under `open_llama`.
"""

import base64
import copy
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.models.dtypes import dtype_name, dtype_named
from workbench.models.open_llama.configuration_open_llama import OpenLlamaConfig
from workbench.models.open_llama.modeling_open_llama import EMBEDDING_EPS
from workbench.models.open_llama.relatives import LLAMA_SWITCHES
from workbench.models.stored import Stored

RECORD = "open_llama"
"""Key of a LLaMA's config.json with the record of the Open-Llama that it was exported from."""

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
NORM = {name: f"model.embed_layer_norm.{name}" for name in ("weight", "bias")}
SWITCHES = (*LLAMA_SWITCHES, "tie_word_embeddings", "use_memory_efficient_attention")


class Unfolded(NamedTuple):
    """Result of `unfold`: an Open-Llama that is restored from a LLaMA folder."""

    config: OpenLlamaConfig
    tensors: dict[str, Stored]
    """Name -> tensor of the Open-Llama."""
    note: str
    """What was restored, or why nothing was; empty if nothing was folded."""


def fold(config: OpenLlamaConfig, tensors: Mapping[str, Stored]) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Return the tensors of a LLaMA that computes the same as an Open-Llama, and the record for `unfold`.

    Tensors that don't change are returned as they are, unread.

    Args:
        config: Configuration of the Open-Llama.
        tensors: Its tensors in the dtype that the model will compute in; tied tensors appear once.
    """
    folded = dict(tensors)
    record: dict[str, Any] = {name: getattr(config, name) for name in SWITCHES}
    if not config.use_stable_embedding:
        return folded, record
    rows, norm = folded[EMBEDDING][...], {name: folded.pop(full)[...] for name, full in NORM.items()}
    weight, bias = (norm[name].to(rows.dtype) for name in ("weight", "bias"))
    folded[EMBEDDING] = F.layer_norm(rows, rows.shape[1:], weight, bias, EMBEDDING_EPS)
    record["embed_layer_norm"] = {name: _encoded(tensor) for name, tensor in norm.items()}
    if config.ties_embeddings and "score.weight" not in folded:
        folded[HEAD] = rows
        record["sha256"] = {name: _fingerprint(folded[name][...]) for name in (EMBEDDING, HEAD)}
    return folded, record


def unfold(config: OpenLlamaConfig, record: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Unfolded:
    """Restore the Open-Llama that `fold` converted; a stable embedding only if its tensors are unchanged.

    Args:
        config: Configuration of the LLaMA folder as an Open-Llama, all switches off.
        record: Record from `fold`.
        tensors: Tensors of the LLaMA folder.
    """
    norm, fingerprints = record.get("embed_layer_norm"), record.get("sha256")
    fields = {name: record[name] for name in SWITCHES}
    untied = {"shared_input_output_embedding": False, "tie_word_embeddings": False}
    if norm is None:
        fields |= {} if config.tie_word_embeddings else untied
        return Unfolded(_with_fields(config, fields), dict(tensors), "")
    folded = _with_fields(config, {**fields, **untied, "use_stable_embedding": False})
    if fingerprints is None:
        return Unfolded(
            folded,
            dict(tensors),
            "the stable embedding stays folded, because the export doesn't have its original rows",
        )
    for name in (EMBEDDING, HEAD):
        if name not in tensors or _fingerprint(tensors[name][...]) != fingerprints[name]:
            note = f"the stable embedding stays folded, because {name} has changed"
            return Unfolded(folded, dict(tensors), note)
    restored = {name: tensor for name, tensor in tensors.items() if name != HEAD}
    restored[EMBEDDING] = tensors[HEAD]
    restored |= {full: _decoded(norm[name]) for name, full in NORM.items()}
    return Unfolded(_with_fields(config, fields), restored, "stable and shared embedding restored")


def _with_fields(config: OpenLlamaConfig, fields: Mapping[str, Any]) -> OpenLlamaConfig:
    """Return a copy of the configuration with `fields` set."""
    copied = copy.deepcopy(config)
    for name, value in fields.items():
        setattr(copied, name, value)
    return copied


def _fingerprint(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's dtype, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(_bytes(tensor).data)
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return tensor.contiguous().view(torch.uint8).numpy()


def _encoded(tensor: Tensor) -> dict[str, str]:
    """Encode a vector for JSON, without rounding."""
    name = dtype_name(tensor.dtype)
    return {"dtype": name, "base64": base64.b64encode(_bytes(tensor).data).decode("ascii")}


def _decoded(encoded: Mapping[str, str]) -> Tensor:
    """Decode a vector from `_encoded`."""
    data = bytearray(base64.b64decode(encoded["base64"]))
    return torch.frombuffer(data, dtype=dtype_named(encoded["dtype"]))
