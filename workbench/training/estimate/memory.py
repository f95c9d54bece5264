"""How much memory a training will hold at its peak, part by part, and how long it takes, from shapes alone.

What a layer keeps for its backward pass is counted tensor by tensor, as our own model keeps it (a test
compares with what autograd really saves); models with transformers' own code are estimated by a factor.

Shapes: T tokens of a batch, padding included, H hidden size, I inner size of the MLP, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from transformers import PreTrainedConfig

from workbench.config.adapter import ALL_LINEAR, AdapterConfig, AdapterMethod
from workbench.config.quantization import QuantizationConfig, QuantizationMethod

LOGITS_BYTES = 1 << 27
"""Of float32 logits at a time; the loss is computed in such chunks."""
NATIVE = 2.5
"""Times what our layers keep: float32 copies for norms and adapters, one for each."""
CONTEXT_BYTES = 600 * 2**20
"""Held by CUDA, its libraries and the allocator's rounding."""
LIBRARY_BYTES = 260 * 2**20
"""What a CPU process takes on beside tensors when it loads a model and trains it, as measured."""
INNER = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
"""Names of the MLP's inner size; where a configuration has none of them it is four times the hidden size."""


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes."""

    layers: int
    hidden: int
    inner: int
    queries: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together."""
    vocabulary: int
    heads: int
    """Rows of the matrices of the vocabulary's size: 1 where head and embedding are one, else 2."""
    outputs: int = 0
    """Classes; 0 for a causal model."""
    native: bool = False
    """Whether it is transformers' code."""

    @classmethod
    def of(cls, config: PreTrainedConfig, outputs: int = 0, *, native: bool = False) -> "Shape":
        """The sizes that a configuration names, as the LLaMA family does or as older models do."""
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
        """Name -> inputs and outputs of each linear layer of a decoder layer."""
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
        """Of all decoder layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linear.values())

    @property
    def other_weights(self) -> int:
        """Embedding, head and norms, which are never quantized."""
        ends = self.heads * self.vocabulary + self.outputs
        return self.hidden * (ends + 2 * self.layers + 1)


@dataclass(frozen=True)
class Batch:
    """The largest batch of a training."""

    rows: int
    tokens: int
    """Padding included."""
    labelled: int
    """Tokens that a loss falls on; for a classifier rows."""


@dataclass(frozen=True)
class Setting:
    """All that decides the memory of a training."""

    shape: Shape
    quantization: QuantizationConfig
    adapter: AdapterConfig | None
    """None: the model's own weights are trained."""
    batch: Batch
    checkpointing: bool
    dtype_bytes: int
    """Of a whole weight and of an activation."""
    on_cpu: bool
    masters: bool = False
    """Whether 16-bit weights are trained as float32 copies, and multiplied in 16 bits."""
    process_bytes: int = CONTEXT_BYTES
    """Held before the model is loaded."""

    @property
    def residual_bytes(self) -> int:
        """Of a weight that is trained itself, and of a value that runs from layer to layer."""
        return 4 if self.masters else self.dtype_bytes

    def on_this_cpu(self, resident: int) -> "Setting":
        """The same in a process that holds `resident` bytes already."""
        return replace(self, process_bytes=resident + LIBRARY_BYTES)


def peak_parts(setting: Setting) -> dict[str, int]:
    """Bytes at the peak, by what they are for; their sum is the peak."""
    trained, own_bytes = trained_weights(setting), 4
    if setting.adapter is None:
        own_bytes = setting.residual_bytes
    logits = logits_bytes(setting)
    return {
        "process": setting.process_bytes,
        "weights": weights_bytes(setting),
        "adapter": 0 if setting.adapter is None else own_bytes * trained,
        "gradients": own_bytes * trained,
        "optimizer": 2 * own_bytes * trained,
        "activations": activations_bytes(setting),
        "logits": logits,
        "passing": max(0, passing_bytes(setting) - logits),
    }


def weights_bytes(setting: Setting) -> int:
    """Of the base model as it is held; trained in float32, its matrices have a 16-bit copy during a step."""
    quantization, size = setting.quantization, float(setting.residual_bytes)
    if setting.masters:
        size += setting.dtype_bytes
    if quantization.method is QuantizationMethod.int8:
        size = 1.0
    elif quantization.method is not QuantizationMethod.none:
        # Half a byte, and for each block of 64 a scale of 4 bytes, or of 1 and a share of 4 per 256 blocks.
        size = 0.5 + ((1 + 4 / 256) if quantization.double_quant else 4) / 64
    return int(setting.shape.linear_weights * size) + setting.shape.other_weights * setting.residual_bytes


def ranks(setting: Setting) -> dict[str, int]:
    """Name -> rank of the adapter on each linear layer that has one."""
    adapter = setting.adapter
    if adapter is None:
        return {}
    names = set(setting.shape.linear)
    if adapter.target_modules != [ALL_LINEAR]:
        names &= {target.rpartition(".")[2] for target in adapter.target_modules}
    return {name: adapter.rank_pattern.get(name, adapter.rank) for name in sorted(names)}


def trained_weights(setting: Setting) -> int:
    """Number of weights with a gradient."""
    shape = setting.shape
    if setting.adapter is None:
        return shape.linear_weights + shape.other_weights
    each = sum(rank * sum(shape.linear[name]) for name, rank in ranks(setting).items())
    return shape.layers * each + shape.hidden * shape.outputs


def layer_bytes(setting: Setting) -> int:
    """What one decoder layer keeps of the largest batch for its backward pass."""
    shape, batch = setting.shape, setting.batch
    # Input and output of both norms; gate, up and their product; what goes into the output projection.
    widths = 2 * shape.hidden + 3 * shape.inner + shape.queries
    half = setting.dtype_bytes == 2
    # Of the adapters their inner states, of the norms a factor each.
    kept = batch.tokens * (
        widths * setting.dtype_bytes
        + 2 * shape.hidden * setting.residual_bytes
        + (2 if half else 4) * sum(ranks(setting).values())
        + 8
    )
    grouped = shape.queries + 2 * shape.keys  # queries, keys and values
    if setting.on_cpu and not half:  # keys repeated for their group, and the kernel's result
        kept += batch.tokens * setting.dtype_bytes * (4 * shape.queries + shape.queries // 32)
    elif setting.on_cpu:
        kept += batch.tokens * setting.dtype_bytes * grouped
    else:
        kept += batch.tokens * setting.dtype_bytes * (grouped + shape.queries)
    if shape.native:
        return int(NATIVE * kept)
    return kept + copies_bytes(setting)


def copies_bytes(setting: Setting) -> int:
    """Float32 inputs that peft keeps for each adapter which is not plain LoRA."""
    adapter = setting.adapter
    if adapter is None or (adapter.method is AdapterMethod.lora and adapter.dropout == 0):
        return 0
    each = 4 + (5 if adapter.dropout else 0) + (4 if adapter.method is AdapterMethod.dora else 0)
    return setting.batch.tokens * each * sum(setting.shape.linear[name][0] for name in ranks(setting))


def activations_bytes(setting: Setting) -> int:
    """What all layers and the last norm keep; with checkpointing only inputs, and one layer in full."""
    layers = setting.shape.layers
    inputs = setting.batch.tokens * setting.shape.hidden * setting.residual_bytes
    if setting.checkpointing:
        return (layers + 1) * inputs + layer_bytes(setting)
    return layers * layer_bytes(setting) + inputs


def logits_bytes(setting: Setting) -> int:
    """Of the chunk of logits that is there at a time, in the model's type, and the rows they are made from.

    On a GPU in float32, too; a CPU turns a few of them at a time to that.
    """
    shape, batch = setting.shape, setting.batch
    if shape.outputs:
        return 0
    exact = 0 if setting.dtype_bytes == 4 or (setting.on_cpu and not shape.native) else 4
    each = shape.vocabulary * (exact + setting.dtype_bytes)
    if shape.native:
        return batch.tokens * 2 * each
    chunk = max(1, LOGITS_BYTES // (4 * shape.vocabulary))
    return min(batch.labelled, chunk) * each + 2 * batch.labelled * shape.hidden * setting.dtype_bytes


def passing_bytes(setting: Setting) -> int:
    """What a layer's backward pass holds for a moment: gradients of the MLP, float32 copies of the norm."""
    shape, batch = setting.shape, setting.batch
    largest = max(inputs * outputs for inputs, outputs in shape.linear.values()) * setting.dtype_bytes
    return batch.tokens * (4 * shape.inner * setting.dtype_bytes + 12 * shape.hidden) + largest


def step_flops(setting: Setting, *, tokens: int, labelled: int, length: float) -> float:
    """Operations of all passes over so many tokens, `labelled` of them, in texts of a mean length."""
    shape = setting.shape
    passes = 4 + (2 if setting.checkpointing else 0) + (2 if setting.adapter is None else 0)
    attention = 3 * 2 * shape.layers * shape.queries * length
    each = passes * shape.linear_weights + attention
    if setting.adapter is not None:
        each += 6 * trained_weights(setting)
    head = 0 if shape.outputs else (4 if setting.adapter is not None else 6) * shape.vocabulary * shape.hidden
    return tokens * each + labelled * head


def ways_out(setting: Setting, room: int) -> list[tuple[str, int]]:
    """Settings to change, with the peak after each and all before it, until it fits into `room` bytes.

    Those that save nothing are left out.
    """
    found: list[tuple[str, int]] = []
    before = sum(peak_parts(setting).values())

    def change(said: str, changed: Setting) -> Setting:
        peak = sum(peak_parts(changed).values())
        if peak < (found[-1][1] if found else before):
            found.append((said, peak))
        return changed

    def fits() -> bool:
        return bool(found) and found[-1][1] <= room

    if not setting.checkpointing:
        setting = change("train.gradient_checkpointing=true", replace(setting, checkpointing=True))
    rows, parts = setting.batch.rows, 1
    while not fits() and rows > 1:
        rows, parts = -(-rows // 2), 2 * parts
        said = f"train.per_device_batch_size={rows} and {parts} x train.gradient_accumulation_steps"
        setting = change(said, replace(setting, batch=smaller(setting.batch, rows)))
    whole = setting.quantization.method is QuantizationMethod.none
    if not fits() and whole and setting.adapter is not None:
        nf4 = QuantizationConfig(method=QuantizationMethod.nf4)
        setting = change("quantization=nf4", replace(setting, quantization=nf4))
    if not fits() and setting.adapter is None:
        change("adapter=lora", replace(setting, adapter=AdapterConfig()))
    return found


def smaller(batch: Batch, rows: int) -> Batch:
    """The batch with fewer rows like its own."""
    share = rows / batch.rows
    return Batch(rows, *(int(count * share) for count in (batch.tokens, batch.labelled)))


def shown(parts: Mapping[str, int]) -> str:
    """Peak and parts, in GiB."""
    each = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items() if size >= 2**20)
    return f"{sum(parts.values()) / 2**30:.2f} GiB at the peak ({each})"
