"""The stable embedding, folded into plain embedding rows for LLaMA's sake, and unfolded again.

The layer norm behind Open-Llama's embedding sees one row of the table at a time, so its outcome is a
function of the token: a table of the outcomes is the same model without a norm. The head, if shared, then
needs a table of its own, the old one, which keeps every old row on the disk. What else has to be known to go
back is written into config.json under `open_llama`.
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
from workbench.models.open_llama.configuration_open_llama import LLAMA_SWITCHES, OpenLlamaConfig
from workbench.models.open_llama.modeling_open_llama import EMBEDDING_EPS
from workbench.models.stored import Stored

RECORD = "open_llama"
"""Key of a LLaMA config.json that says which Open-Llama it was."""

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
NORM = {part: f"model.embed_layer_norm.{part}" for part in ("weight", "bias")}
SWITCHES = (*LLAMA_SWITCHES, "tie_word_embeddings", "use_memory_efficient_attention")


class Unfolded(NamedTuple):
    """What a LLaMA folder with a record becomes."""

    config: OpenLlamaConfig
    tensors: dict[str, Stored]
    note: str
    """What was restored, or why not; empty where nothing was folded."""


def fold(config: OpenLlamaConfig, tensors: Mapping[str, Stored]) -> tuple[dict[str, Stored], dict[str, Any]]:
    """The tensors of the LLaMA that computes what this Open-Llama does, and the record of the way back.

    Args:
        config: Of the Open-Llama.
        tensors: Its tensors, each tied one once, in the type that the model is to compute in.
    """
    folded = dict(tensors)
    record: dict[str, Any] = {name: getattr(config, name) for name in SWITCHES}
    if not config.use_stable_embedding:
        return folded, record
    rows, norm = folded[EMBEDDING][...], {part: folded.pop(name)[...] for part, name in NORM.items()}
    weight, bias = (norm[part].to(rows.dtype) for part in ("weight", "bias"))
    folded[EMBEDDING] = F.layer_norm(rows, rows.shape[1:], weight, bias, EMBEDDING_EPS)
    record["embed_layer_norm"] = {part: _text(tensor) for part, tensor in norm.items()}
    if config.ties_embeddings and "score.weight" not in folded:
        folded[HEAD] = rows
        record["sha256"] = {name: _fingerprint(folded[name][...]) for name in (EMBEDDING, HEAD)}
    return folded, record


def unfold(config: OpenLlamaConfig, record: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Unfolded:
    """The Open-Llama that `fold` was given, wherever its tensors are still determined.

    Args:
        config: Of the LLaMA folder, its switches off.
        record: What `fold` wrote.
        tensors: Of the LLaMA folder.
    """
    norm, prints = record.get("embed_layer_norm"), record.get("sha256")
    fields = {name: record[name] for name in SWITCHES}
    untied = {"shared_input_output_embedding": False, "tie_word_embeddings": False}
    if norm is None:
        fields |= {} if config.tie_word_embeddings else untied
        return Unfolded(_changed(config, fields), dict(tensors), "")
    folded = _changed(config, {**fields, **untied, "use_stable_embedding": False})
    if prints is None:
        return Unfolded(folded, dict(tensors), "the stable embedding stays folded, its rows were not kept")
    for name in (EMBEDDING, HEAD):
        if name not in tensors or _fingerprint(tensors[name][...]) != prints[name]:
            note = f"the stable embedding stays folded, {name} is another now"
            return Unfolded(folded, dict(tensors), note)
    restored = {name: tensor for name, tensor in tensors.items() if name != HEAD}
    restored[EMBEDDING] = tensors[HEAD]
    restored |= {name: _tensor(norm[part]) for part, name in NORM.items()}
    return Unfolded(_changed(config, fields), restored, "stable and shared embedding restored")


def _changed(config: OpenLlamaConfig, fields: Mapping[str, Any]) -> OpenLlamaConfig:
    """The configuration with other values in some fields."""
    changed = copy.deepcopy(config)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _fingerprint(tensor: Tensor) -> str:
    """SHA-256 of a tensor's type, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(_bytes(tensor).data)
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return tensor.contiguous().view(torch.uint8).numpy()


def _text(tensor: Tensor) -> dict[str, str]:
    """A vector as JSON can hold it to the last bit."""
    name = dtype_name(tensor.dtype)
    return {"dtype": name, "base64": base64.b64encode(_bytes(tensor).data).decode("ascii")}


def _tensor(text: Mapping[str, str]) -> Tensor:
    """The vector that `_text` wrote."""
    data = bytearray(base64.b64decode(text["base64"]))
    return torch.frombuffer(data, dtype=dtype_named(text["dtype"]))
