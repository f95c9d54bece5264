"""Describes a training for the memory estimate: sizes of the model, the largest batch, and settings."""

from dataclasses import dataclass, replace

from transformers import PreTrainedConfig

from workbench.config.adapter import AdapterConfig
from workbench.config.quantization import QuantizationConfig

CONTEXT_BYTES = 600 * 2**20
"""Memory of CUDA, its libraries and the allocator's rounding."""
LIBRARY_BYTES = 260 * 2**20
"""Memory besides tensors that a CPU process takes to load a model and train it, as measured."""
INNER = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
"""Names of the MLP's inner size; a configuration without any of them has four times the hidden size."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder."""

    layers: int
    hidden: int
    inner: int
    queries: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together."""
    vocabulary: int
    heads: int
    """Number of vocabulary-sized matrices: 1 if head and embedding share one, else 2."""
    outputs: int = 0
    """Number of classes; 0 for a causal model."""
    native: bool = False
    """Whether the modelling code is transformers' own."""

    @classmethod
    def of(cls, config: PreTrainedConfig, outputs: int = 0, *, native: bool = False) -> "Shape":
        """Return the sizes in a configuration, by the names of the LLaMA family or of older models."""
        text = config.get_text_config()
        heads, groups = getattr(text, "num_attention_heads", 1), getattr(text, "num_key_value_heads", None)
        inner = next((size for name in INNER if (size := getattr(text, name, None))), 4 * text.hidden_size)
        width = getattr(text, "head_dim", None) or text.hidden_size // heads
        tied = outputs or getattr(text, "ties_embeddings", text.tie_word_embeddings)
        return cls(
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            inner=inner,
            queries=heads * width,
            keys=(groups or heads) * width,
            vocabulary=text.vocab_size,
            heads=1 if tied else 2,
            outputs=outputs,
            native=native,
        )

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Name -> input and output width of each linear layer of a decoder layer."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner),
            "down_proj": (self.inner, self.hidden),
        }

    @property
    def linear_weights(self) -> int:
        """Number of weights in the linear layers of all decoder layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear.values())

    @property
    def other_weights(self) -> int:
        """Number of weights in embedding, head and norms, which are never quantized."""
        end_rows = self.heads * self.vocabulary + self.outputs
        return self.hidden * (end_rows + 2 * self.layers + 1)


@dataclass(frozen=True)
class Batch:
    """Largest batch of a training."""

    rows: int
    tokens: int
    """Tokens, padding included."""
    labelled: int
    """Unmasked tokens; for a classifier, rows."""


@dataclass(frozen=True)
class Setting:
    """Everything that decides the memory of a training."""

    shape: Shape
    quantization: QuantizationConfig
    adapter: AdapterConfig | None
    """None: the model's own weights are trained."""
    batch: Batch
    checkpointing: bool
    dtype_bytes: int
    """Bytes of an unquantized weight and of an activation."""
    on_cpu: bool
    masters: bool = False
    """Whether weights are trained as float32 master copies and multiplied in 16 bits (mixed precision)."""
    process_bytes: int = CONTEXT_BYTES
    """Memory of the process before the model is loaded."""

    @property
    def residual_bytes(self) -> int:
        """Bytes of a trained weight of the model, and of a value in the residual stream."""
        return 4 if self.masters else self.dtype_bytes

    def on_this_cpu(self, resident: int) -> "Setting":
        """Return this setting for a CPU process that has `resident` bytes already."""
        return replace(self, process_bytes=resident + LIBRARY_BYTES)
