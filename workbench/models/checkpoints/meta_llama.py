"""Folders as Meta released LLaMA: params.json and consolidated.NN.pth, one file a GPU of theirs."""

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
# which the files split a tensor: 0, 1, or None where each holds it whole.
WHOLE: dict[str, tuple[str, int | None]] = {
    "tok_embeddings.weight": ("model.embed_tokens.weight", 1),
    "norm.weight": ("model.norm.weight", None),
    "output.weight": ("lm_head.weight", 0),
}
LAYER: dict[str, tuple[str, int | None]] = {
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
    """One tensor out of its parts, put together when it is asked for."""

    parts: tuple[Tensor, ...]
    dim: int | None
    num_heads: int
    """Heads whose rows Meta interleaves; 0: none."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The whole tensor's shape."""
        sizes = list(self.parts[0].shape)
        if self.dim is not None:
            sizes[self.dim] = sum(part.shape[self.dim] for part in self.parts)
        return tuple(sizes)

    @property
    def dtype(self) -> torch.dtype:
        """The tensor's type."""
        return self.parts[0].dtype

    def __getitem__(self, index: Any, /) -> Tensor:
        """The tensor, for `...`."""
        whole = self.parts[0] if self.dim is None else torch.cat(self.parts, self.dim)
        if not self.num_heads:
            return whole
        # Meta rotates neighbouring pairs, transformers halves: rows go from (D/2, 2) to (2, D/2). The
        # original project's converter, utils/convert_ckpt.py, left this out.
        return whole.view(self.num_heads, -1, 2, whole.shape[-1]).transpose(1, 2).reshape(whole.shape)


def is_meta(folder: Path) -> bool:
    """Whether a folder is laid out this way."""
    return (folder / PARAMETERS).is_file() and not (folder / "config.json").is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's description in the words of LlamaConfig.

    Raises:
        CheckpointError: params.json or a consolidated file can't be read, or the model has experts.
    """
    params = _parameters(folder)
    if params.get("moe"):
        raise CheckpointError(f"{folder / PARAMETERS}: Open-Llama can't express moe={params['moe']!r}")
    shapes = {name: tensor.shape for name, tensor in read_tensors(folder).items()}
    sizes = ("model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight")
    if missing := [name for name in sizes if len(shapes.get(name, ())) != 2]:
        raise CheckpointError(f"{folder}: no {' and no '.join(missing)} among the consolidated tensors")
    vocabulary, intermediate = (shapes[name][0] for name in sizes)
    third = params.get("rope_theta", 10000.0) >= 500000  # Llama 3, whose vocabulary is another
    scaled = bool(params.get("use_scaled_rope"))
    rope = {"rope_type": "default", "rope_theta": params.get("rope_theta", 10000.0)}
    if scaled:
        rope |= {"rope_type": "llama3", "factor": params.get("rope_scale_factor", 8.0), **LLAMA3_ROPE}
    # The trained length is said nowhere; only the dynamic kind of rotary embedding asks for it.
    length = 8192 if third else 4096 if params["norm_eps"] == 1e-5 else 2048
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
        "max_position_embeddings": 131072 if scaled else length,
        "bos_token_id": 128000 if third else 1,
        "eos_token_id": 128001 if third else 2,
        "pad_token_id": None,
        "tie_word_embeddings": "lm_head.weight" not in shapes,
        "rope_parameters": rope,
    }


def read_tensors(folder: Path) -> dict[str, SplitTensor]:
    """The folder's tensors under LLaMA's names, mapped into memory and not yet read.

    Raises:
        CheckpointError: no consolidated file, a damaged one, files of different models, or an unknown tensor.
    """
    params = _parameters(folder)
    files = sorted(folder.glob("consolidated.*.pth"))
    if not files:
        raise CheckpointError(f"{folder}: no weights (consolidated.00.pth)")
    shards = [read_pickle(file) for file in files]
    for file, shard in zip(files[1:], shards[1:], strict=True):
        if shard.keys() != shards[0].keys():
            raise CheckpointError(f"{file}: holds other tensors than {files[0].name}")
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
    """The name in transformers of a tensor and the dimension along which files split it.

    Raises:
        CheckpointError: LLaMA has no such tensor.
    """
    if stored in WHOLE:
        return WHOLE[stored]
    layer, _, part = stored.removeprefix("layers.").partition(".")
    if part not in LAYER or not layer.isdigit():
        raise CheckpointError(f"{file}: Open-Llama has no place for the tensor {stored}")
    name, dim = LAYER[part]
    return f"model.layers.{layer}.{name}", dim


def _parameters(folder: Path) -> dict[str, Any]:
    """params.json.

    Raises:
        CheckpointError: it can't be read, or lacks one of the four numbers that a LLaMA needs.
    """
    file = folder / PARAMETERS
    params = read_json_object(file)
    check_sizes(params, file)
    if missing := [name for name in ("dim", "n_heads", "n_layers", "norm_eps") if name not in params]:
        raise CheckpointError(f"{file}: lacks {', '.join(missing)}")
    return params
