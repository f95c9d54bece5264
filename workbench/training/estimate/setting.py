"""Describes a training for the memory estimate: sizes of the model, the largest batch, and settings."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.config.adapter import AdapterConfig
from workbench.config.quantization import QuantizationConfig
from workbench.config.train import Optimizer
from workbench.errors import CheckpointError

CONTEXT_BYTES = 600 * 2**20
"""Memory of CUDA, its libraries and the allocator's rounding."""
LIBRARY_BYTES = 260 * 2**20
"""Measured memory, besides tensors, that a process takes on a CPU to load a model and train it."""
INNER = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
"""Names of the MLP's inner size in config.json; without any of them it is four times the hidden size."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Names of the number of experts in a layer in config.json."""


@dataclass(frozen=True)
class Linear:
    """A group of a model's linear layers of the same name and size, such as q_proj in each decoder layer."""

    name: str
    """Last part of the layers' names, such as `q_proj`."""
    inputs: int
    outputs: int
    count: int
    """Number of layers in the group."""

    @property
    def weights(self) -> int:
        """Number of weights of a single layer of the group."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class SavedBytes:
    """Bytes that all layers of a model together store for the backward pass, by the size of the batch."""

    per_token: float
    per_pair: float
    """Bytes for each pair of tokens of a row; attention that stores its scores has such."""

    def of(self, rows: int, tokens: int) -> int:
        """Return the bytes for a batch of `rows` rows of one length with `tokens` tokens together."""
        return int(tokens * self.per_token + tokens * tokens / max(rows, 1) * self.per_pair)


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder, as far as they decide memory and FLOP."""

    layers: int
    hidden: int
    inner: int
    """Width of the MLP; with experts, of all experts that a token passes through together."""
    queries: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together."""
    vocabulary: int
    linear: tuple[Linear, ...]
    other_weights: int
    """Number of weights in embedding, head, norms and experts; int8 leaves all of them unquantized."""
    expert_weights: int = 0
    """Number of weights, among `other_weights`, of the experts that a token passes through."""
    experts: int = 0
    """Number of weights, among `other_weights`, of all experts."""
    layer_experts: int = 0
    """Number of weights of the experts of one layer, the largest."""
    outputs: int = 0
    """Number of classes; 0 for a causal model."""
    factor: float = 1.0
    """Activations that a layer stores, divided by those of Open-Llama's layers."""
    stores_logits: bool = False
    """Whether a training stores the logits of a whole batch."""
    saved: SavedBytes | None = None
    """Activations that all layers store, counted in the model's own code; None: they are estimated."""

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        outputs: int = 0,
        *,
        factor: float = 1.0,
        stores_logits: bool = False,
        saved: SavedBytes | None = None,
    ) -> "Shape":
        """Read the sizes of a model, which may be on the meta device.

        Args:
            model: The model; its configuration names the sizes as LLaMA or as an older model does.
            outputs: Number of classes; 0 for a causal model.
            factor: Activations that a layer stores, divided by those of Open-Llama's layers.
            stores_logits: Whether a training stores the logits of a whole batch.
            saved: Activations that all layers store; None: they are estimated.

        Raises:
            CheckpointError: The configuration doesn't give a size under any known name.
        """
        text = model.config.get_text_config()
        hidden = size(text, "hidden_size")
        heads = size(text, "num_attention_heads", default=1)
        width = size(text, "head_dim", default=hidden // heads)
        linear = linear_layers(model)
        experts, share = expert_weights(model), active_share(text)
        inner = next((size(text, name) for name in INNER if getattr(text, name, None)), 4 * hidden)
        if experts:
            inner = size(text, "moe_intermediate_size", default=inner) * size(
                text, "num_experts_per_tok", default=1
            )
        return cls(
            layers=size(text, "num_hidden_layers"),
            hidden=hidden,
            inner=inner,
            queries=heads * width,
            keys=size(text, "num_key_value_heads", default=heads) * width,
            vocabulary=size(text, "vocab_size"),
            linear=linear,
            other_weights=model.num_parameters() - sum(layer.count * layer.weights for layer in linear),
            expert_weights=int(share * experts),
            experts=experts,
            layer_experts=layer_experts(model),
            outputs=outputs,
            factor=factor,
            stores_logits=stores_logits,
            saved=saved,
        )

    @property
    def linear_weights(self) -> int:
        """Number of weights in all linear layers, without output heads and without experts."""
        return sum(layer.count * layer.weights for layer in self.linear)


def size(config: PreTrainedConfig, name: str, default: int | None = None) -> int:
    """Read the field `name` of a model's configuration, an integer; of a list, one per layer, the largest.

    If the field is missing or None, `default` is returned.

    Raises:
        CheckpointError: The field is missing or None and there is no default, or it isn't an integer above 0.
    """
    value = getattr(config, name, None)
    if isinstance(value, list | tuple) and value:
        value = max(value)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or value <= 0:
        raise CheckpointError(f"config.json: a {config.model_type} without a {name}, so it can't be planned")
    return value


def linear_layers(model: PreTrainedModel) -> tuple[Linear, ...]:
    """Return the linear layers of a model, without output heads, grouped by name and size."""
    heads = [cast(Any, model).get_output_embeddings(), getattr(model, "score", None)]
    counts = Counter(
        (name.rpartition(".")[2], *shape_of(module))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and not any(module is head for head in heads)
    )
    return tuple(Linear(*key, count) for key, count in sorted(counts.items()))


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """Return the numbers of inputs and outputs of a linear layer."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    inputs, outputs = cast(Tensor, layer.weight).shape
    return inputs, outputs


def expert_weights(model: nn.Module) -> int:
    """Return the number of weights of all experts of a model, which transformers stores as 3-D parameters."""
    return sum(p.numel() for name, p in model.named_parameters() if p.dim() == 3 and "expert" in name)


def layer_experts(model: nn.Module) -> int:
    """Return the number of weights of the experts of one layer; of several sizes, the largest."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 3 and "expert" in name:
            counts[name.rpartition(".")[0]] += parameter.numel()
    return max(counts.values(), default=0)


def active_share(config: PreTrainedConfig) -> float:
    """Return the share of a layer's experts that a token passes through; 1 without experts.

    Raises:
        CheckpointError: config.json has a `num_experts_per_tok` that isn't an integer above 0.
    """
    count = next((value for name in EXPERTS if (value := getattr(config, name, None))), None)
    return size(config, "num_experts_per_tok", default=1) / count if count else 1.0


@dataclass(frozen=True)
class Batch:
    """Sizes of the largest microbatch of a training: rows, tokens, and tokens with loss."""

    rows: int
    tokens: int
    """Tokens, padding included."""
    labelled: int
    """Tokens with loss; for a classifier, rows."""


@dataclass(frozen=True)
class Setting:
    """Everything that decides the memory of a training."""

    shape: Shape
    quantization: QuantizationConfig
    adapter: AdapterConfig | None
    """None: there is no adapter, and all weights of the model are trained."""
    batch: Batch
    checkpointing: bool
    dtype_bytes: int
    """Bytes of an unquantized weight and of an activation."""
    on_cpu: bool
    repeats_keys: bool = False
    """On a CPU: whether PyTorch's attention runs in 16 bits, which takes keys repeated for all queries of a
    group, since the processor doesn't multiply bfloat16."""
    adapter_weights: int | None = None
    """Trained weights of an adapter that isn't a LoRA; None: a LoRA, with matrices A and B."""
    masters: bool = False
    """Mixed precision: whether weights are trained in float32 and multiplied as 16-bit copies."""
    optimizer: Optimizer = Optimizer.adamw_torch_fused
    offloading: bool = False
    """Whether activations are kept in the machine's memory until the backward pass; never on a CPU."""
    shares: int = 1
    """Processes over which the weights of the layers are split (`train.fsdp`)."""
    process_bytes: int = CONTEXT_BYTES
    """Bytes of memory that the process takes without the model."""

    @property
    def residual_bytes(self) -> int:
        """Bytes per value in the residual stream, and per unquantized weight of the base model."""
        return 4 if self.masters else self.dtype_bytes

    def on_this_cpu(self, resident: int) -> "Setting":
        """Return a copy of this setting for training in this CPU process.

        `resident` are the bytes of memory that the process takes before the model is loaded.
        """
        return replace(self, process_bytes=resident + LIBRARY_BYTES)
