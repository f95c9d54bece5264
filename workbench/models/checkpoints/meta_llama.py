"""Reads LLaMA in Meta's format: params.json and consolidated.NN.pth, one file per GPU of Meta's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.models.checkpoints.announced_sizes import check_sizes
from workbench.models.checkpoints.state_dict import read_json_object, read_pickle
from workbench.models.gguf.reader import LLAMA3_ROPE

PARAMETERS = "params.json"

# Meta's names (llama/model.py of github.com/meta-llama/llama) and transformers', with the dimension along
# which the files split a tensor: 0, 1, or None if each file has the entire tensor.
MODEL_TENSORS: dict[str, tuple[str, int | None]] = {
    "tok_embeddings.weight": ("model.embed_tokens.weight", 1),
    "norm.weight": ("model.norm.weight", None),
    "output.weight": ("lm_head.weight", 0),
}
LAYER_TENSORS: dict[str, tuple[str, int | None]] = {
    "attention.wq.weight": ("self_attn.q_proj.weight", 0),
    "attention.wk.weight": ("self_attn.k_proj.weight", 0),
    "attention.wv.weight": ("self_attn.v_proj.weight", 0),
    "attention.wo.weight": ("self_attn.o_proj.weight", 1),
    "feed_forward.w1.weight": ("mlp.gate_proj.weight", 0),
    "feed_forward.w3.weight": ("mlp.up_proj.weight", 0),
    "feed_forward.w2.weight": ("mlp.down_proj.weight", 1),
    "attention_norm.weight": ("input_layernorm.weight", None),
    "ffn_norm.weight": ("post_attention_layernorm.weight", None),
}
FREQUENCIES = "rope.freqs"


@dataclass(frozen=True)
class SplitTensor:
    """Tensor of Meta's files, whose parts are concatenated each time it is indexed."""

    parts: tuple[Tensor, ...]
    """The tensor of this name in each file."""
    dim: int | None
    """Dimension along which the files split it; None: each file has the entire tensor."""
    num_heads: int
    """Number of heads whose rows Meta interleaves; 0: the rows are not interleaved."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the concatenated tensor."""
        sizes = list(self.parts[0].shape)
        if self.dim is not None:
            sizes[self.dim] = sum(part.shape[self.dim] for part in self.parts)
        return tuple(sizes)

    @property
    def dtype(self) -> torch.dtype:
        """Return the tensor's dtype."""
        return self.parts[0].dtype

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return the entire tensor, with rows in transformers' order; the only index is `...`."""
        tensor = self.parts[0] if self.dim is None else torch.cat(self.parts, self.dim)
        if not self.num_heads:
            return tensor
        # Meta rotates neighbouring pairs, transformers halves: rows are permuted from (D/2, 2) to (2, D/2).
        # The original project's converter, utils/convert_ckpt.py, doesn't do this.
        return tensor.view(self.num_heads, -1, 2, tensor.shape[-1]).transpose(1, 2).reshape(tensor.shape)


def is_meta(folder: Path) -> bool:
    """Return whether a folder has Meta's format: params.json, and no config.json."""
    return (folder / PARAMETERS).is_file() and not (folder / "config.json").is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Return the fields of LlamaConfig that follow from params.json and from the shapes of the tensors.

    Raises:
        CheckpointError: params.json or a consolidated file can't be read, the embedding or the first layer is
            missing, or the model has experts.
    """
    params = _parameters(folder)
    if params.get("moe"):
        raise CheckpointError(f"{folder / PARAMETERS}: Open-Llama doesn't support moe={params['moe']!r}")
    shapes = {name: tensor.shape for name, tensor in read_tensors(folder).items()}
    sizes = ("model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight")
    if missing := [name for name in sizes if len(shapes.get(name, ())) != 2]:
        raise CheckpointError(f"{folder}: the consolidated files have no {' and no '.join(missing)}")
    vocabulary, intermediate = (shapes[name][0] for name in sizes)
    is_llama3 = params.get("rope_theta", 10000.0) >= 500000
    has_scaled_rope = bool(params.get("use_scaled_rope"))
    rope = {"rope_type": "default", "rope_theta": params.get("rope_theta", 10000.0)}
    if has_scaled_rope:
        rope |= {"rope_type": "llama3", "factor": params.get("rope_scale_factor", 8.0), **LLAMA3_ROPE}
    # No file has the trained length; only the dynamic rotary embedding needs it.
    length = 8192 if is_llama3 else 4096 if params["norm_eps"] == 1e-5 else 2048
    return {
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": vocabulary,
        "hidden_size": params["dim"],
        "intermediate_size": intermediate,
        "num_hidden_layers": params["n_layers"],
        "num_attention_heads": params["n_heads"],
        "num_key_value_heads": params.get("n_kv_heads") or params["n_heads"],
        "rms_norm_eps": params["norm_eps"],
        "max_position_embeddings": 131072 if has_scaled_rope else length,
        "bos_token_id": 128000 if is_llama3 else 1,
        "eos_token_id": 128001 if is_llama3 else 2,
        "pad_token_id": None,
        "tie_word_embeddings": "lm_head.weight" not in shapes,
        "rope_parameters": rope,
    }


def read_tensors(folder: Path) -> dict[str, SplitTensor]:
    """Return transformers' name -> tensor of the folder's consolidated files, which are mapped into memory.

    Raises:
        CheckpointError: Files are missing, damaged or of different models, or a tensor is unknown.
    """
    params = _parameters(folder)
    files = sorted(folder.glob("consolidated.*.pth"))
    if not files:
        raise CheckpointError(f"{folder}: no weights (expected: consolidated.00.pth)")
    shards = [read_pickle(file) for file in files]
    for file, shard in zip(files[1:], shards[1:], strict=True):
        if shard.keys() != shards[0].keys():
            raise CheckpointError(f"{file}: the tensor names differ from those of {files[0].name}")
    heads = {"q_proj": params["n_heads"], "k_proj": params.get("n_kv_heads") or params["n_heads"]}
    tensors = {}
    for stored in shards[0]:
        if stored.endswith(FREQUENCIES):
            continue
        name, dim = _renamed(stored, files[0])
        parts = tuple(shard[stored] for shard in shards)
        if name == "model.embed_tokens.weight" and parts[0].shape[1] == params["dim"]:
            dim = 0  # Llama 3 splits the vocabulary
        tensors[name] = SplitTensor(parts, dim, heads.get(name.split(".")[-2], 0))
    return tensors


def _renamed(stored: str, file: Path) -> tuple[str, int | None]:
    """Return a tensor's name in transformers, and the dimension along which files split it.

    Raises:
        CheckpointError: LLaMA has no such tensor.
    """
    if stored in MODEL_TENSORS:
        return MODEL_TENSORS[stored]
    layer, _, name_in_layer = stored.removeprefix("layers.").partition(".")
    if name_in_layer not in LAYER_TENSORS or not layer.isdigit():
        raise CheckpointError(f"{file}: Open-Llama has no tensor {stored}")
    name, dim = LAYER_TENSORS[name_in_layer]
    return f"model.layers.{layer}.{name}", dim


def _parameters(folder: Path) -> dict[str, Any]:
    """Read params.json.

    Raises:
        CheckpointError: The file can't be read, or lacks a number that every LLaMA has.
    """
    file = folder / PARAMETERS
    params = read_json_object(file)
    check_sizes(params, file)
    if missing := [name for name in ("dim", "n_heads", "n_layers", "norm_eps") if name not in params]:
        raise CheckpointError(f"{file}: {', '.join(missing)} missing")
    return params
