"""Estimates the peak memory (part by part) and the FLOP of a training from the sizes of model and batch.

The tensors that a layer saves for its backward pass are counted one by one for our own model (a test compares
them with what autograd saves). For transformers' own code they are a multiple of those, where its layers are
known; else what autograd saves in a pass without values; and where that fails, a multiple again.

Shapes: T tokens of a batch, padding included, H hidden size, I inner size of the MLP, V vocabulary.
"""

from dataclasses import replace

from workbench.config.adapter import ALL_LINEAR, AdapterConfig, AdapterMethod
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.training.estimate.setting import Batch as Batch
from workbench.training.estimate.setting import Linear
from workbench.training.estimate.setting import SavedBytes as SavedBytes
from workbench.training.estimate.setting import Setting as Setting
from workbench.training.estimate.setting import Shape as Shape

LOGITS_BYTES, GPU_LOGITS_BYTES = 1 << 27, 1 << 29
"""Bytes of a chunk of float32 logits on a CPU and on a GPU; the loss is computed chunk by chunk."""
GATHERED = 2
"""Layers whose split weights are whole at a time: the one that is computed, and the next."""
MAPPED_BYTES = 1 << 25
"""Bytes from which glibc maps a tensor on its own, and returns it whole (DEFAULT_MMAP_THRESHOLD_MAX)."""
NATIVE = 2.5
"""Activations of transformers' layers divided by those of Open-Llama's.

They keep float32 copies for norms and adapters.
"""
TRIED = 1.3
"""The same, of transformers' layers whose norms, MLPs and adapters are computed without these copies."""


def peak_parts(setting: Setting) -> dict[str, int]:
    """Return purpose -> bytes at the moment when memory peaks; their sum is the peak memory.

    Purposes are process, weights, adapter, gradients, optimizer, activations, logits and passing (temporary
    tensors of the backward pass).
    """
    trained = trained_weights(setting)
    weight_bytes = setting.residual_bytes if setting.adapter is None else 4
    logits = logits_bytes(setting)
    is_adalora = setting.adapter is not None and setting.adapter.method is AdapterMethod.adalora
    return {
        "process": setting.process_bytes,
        "weights": weights_bytes(setting),
        "adapter": 0 if setting.adapter is None else weight_bytes * trained,
        "gradients": weight_bytes * trained,
        # AdaLoRA has three importances besides.
        "optimizer": round((moment_bytes(setting) + (3 * weight_bytes if is_adalora else 0)) * trained),
        "activations": activations_bytes(setting),
        "logits": logits,
        "passing": max(0, passing_bytes(setting) - logits) + dequantized_experts_bytes(setting),
    }


def moment_bytes(setting: Setting) -> float:
    """Return the bytes of the optimizer's state per trained weight.

    PyTorch's optimizers keep it in the weight's own number format, bitsandbytes' in float32, or in 8 bits
    with a float32 scale per 256 values.
    """
    optimizer = setting.optimizer
    if "8bit" in optimizer.value:
        size: float = 1 + 4 / 256
    elif "torch" in optimizer.value:
        size = setting.residual_bytes if setting.adapter is None else 4
    else:
        size = 4
    return optimizer.num_moments * size


def weights_bytes(setting: Setting) -> int:
    """Return the bytes of the base model's weights.

    In mixed precision they include 16-bit copies of the linear layers. Of split weights they are this
    process's share and the layers that are gathered.
    """
    quantization, size = setting.quantization, float(setting.residual_bytes)
    if setting.masters:
        size += setting.dtype_bytes
    if quantization.method is QuantizationMethod.int8:
        size = 1.0
    elif quantization.method is not QuantizationMethod.none:
        # Half a byte per weight; per 64 weights a scale of 4 bytes, or of 1 byte and 4 per 256 scales.
        size = 0.5 + ((1 + 4 / 256) if quantization.double_quant else 4) / 64
    shape, quantized = setting.shape, setting.shape.linear_weights
    if quantization.method in (QuantizationMethod.nf4, QuantizationMethod.fp4):
        quantized += shape.experts
    unquantized = shape.linear_weights + shape.other_weights - quantized
    whole = int(quantized * size) + unquantized * setting.residual_bytes
    if setting.shares == 1:
        return whole
    layers = shape.linear_weights * setting.residual_bytes
    gathered = GATHERED * layers // shape.layers
    return whole - layers + min(layers // setting.shares + gathered, layers)


def dequantized_experts_bytes(setting: Setting) -> int:
    """Return the bytes of experts that are dequantized for their products.

    The backward pass needs them: with gradient checkpointing those of one layer at a time, else all.
    """
    if setting.quantization.method not in (QuantizationMethod.nf4, QuantizationMethod.fp4):
        return 0
    shape = setting.shape
    return (shape.layer_experts if setting.checkpointing else shape.experts) * setting.dtype_bytes


def adapted(setting: Setting) -> list[tuple[Linear, int]]:
    """Return (group of linear layers, the adapter's rank) for each targeted group; [] without an adapter."""
    adapter = setting.adapter
    if adapter is None:
        return []
    targets = {target.rpartition(".")[2] for target in adapter.target_modules}
    return [
        (layer, adapter.rank_pattern.get(layer.name, adapter.rank))
        for layer in setting.shape.linear
        if adapter.target_modules == [ALL_LINEAR] or layer.name in targets
    ]


def trained_weights(setting: Setting) -> int:
    """Return the number of weights that get a gradient."""
    shape = setting.shape
    if setting.adapter is None:
        return shape.linear_weights + shape.other_weights
    if setting.adapter_weights is not None:
        return setting.adapter_weights
    added = sum(layer.count * rank * (layer.inputs + layer.outputs) for layer, rank in adapted(setting))
    return added + shape.hidden * shape.outputs


def layer_bytes(setting: Setting) -> int:
    """Return the bytes of activations that one decoder layer saves for the largest batch's backward pass."""
    shape, batch = setting.shape, setting.batch
    if shape.saved is not None:
        return shape.saved.of(batch.rows, batch.tokens) // shape.layers
    # Input and output of both norms; gate, up and their product; input of the output projection.
    widths = 2 * shape.hidden + 3 * shape.inner + shape.queries
    is_half = setting.dtype_bytes == 2
    # Inner activations of the adapters, and one factor per norm.
    saved = batch.tokens * (
        widths * setting.dtype_bytes
        + 2 * shape.hidden * setting.residual_bytes
        + (2 if is_half else 4) * sum(layer.count * rank for layer, rank in adapted(setting)) // shape.layers
        + 8
    )
    qkv = shape.queries + 2 * shape.keys
    # PyTorch's attention of a CPU keeps keys repeated for their query group, and its result.
    if setting.on_cpu and (setting.repeats_keys or not is_half):
        saved += batch.tokens * setting.dtype_bytes * (4 * shape.queries + shape.queries // 32)
    elif setting.on_cpu:
        saved += batch.tokens * setting.dtype_bytes * qkv
    else:
        saved += batch.tokens * setting.dtype_bytes * (qkv + shape.queries)
    if shape.factor == NATIVE:
        return int(NATIVE * saved)
    return int(shape.factor * saved) + copies_bytes(setting)


def copies_bytes(setting: Setting) -> int:
    """Return the bytes that peft's adapters save in one decoder layer for float32 copies of their inputs.

    LoRA without dropout saves none.
    """
    adapter = setting.adapter
    if adapter is None or (adapter.method is AdapterMethod.lora and adapter.dropout == 0):
        return 0
    per_value = 4 + (5 if adapter.dropout else 0) + (4 if adapter.method is AdapterMethod.dora else 0)
    inputs = sum(layer.count * layer.inputs for layer, _ in adapted(setting)) // setting.shape.layers
    return setting.batch.tokens * per_value * inputs


def activations_bytes(setting: Setting) -> int:
    """Return the bytes that all layers save for their backward passes.

    With gradient checkpointing, these are each layer's input, and everything of one layer; with offloading,
    everything of one layer.
    """
    layers = setting.shape.layers
    inputs = setting.batch.tokens * setting.shape.hidden * setting.residual_bytes
    if setting.checkpointing:
        return (layers + 1) * inputs + layer_bytes(setting) + gaps_bytes(setting)
    return (1 if setting.offloading else layers) * layer_bytes(setting) + inputs


def gaps_bytes(setting: Setting) -> int:
    """Return the bytes of the gaps that gradient checkpointing leaves on a CPU's heap in float32.

    Each layer's input stays amid tensors that are freed: an inner activation and a hidden state per token
    and layer are not used again (glibc 2.36), as long as a tensor is small enough for the heap. In 16 bits
    they were not measured, and count as 0 bytes.
    """
    shape, tokens = setting.shape, setting.batch.tokens
    if (
        not setting.on_cpu
        or setting.dtype_bytes != 4
        or setting.dtype_bytes * tokens * shape.inner >= MAPPED_BYTES
    ):
        return 0
    return shape.layers * setting.dtype_bytes * tokens * (shape.inner + shape.hidden)


def logits_bytes(setting: Setting) -> int:
    """Return the bytes for the logits: one chunk of them, and the hidden states that all logits come from.

    Without the chunked loss, all logits are computed at once. A GPU also has float32 copies of 16-bit logits;
    on a CPU the chunked loss converts a few logits at a time. A classifier's logits count as 0 bytes.
    """
    shape, batch = setting.shape, setting.batch
    if shape.outputs:
        return 0
    float32_bytes = 0 if setting.dtype_bytes == 4 or (setting.on_cpu and not shape.stores_logits) else 4
    per_token = shape.vocabulary * (float32_bytes + setting.dtype_bytes)
    if shape.stores_logits:
        return batch.tokens * 2 * per_token
    chunk_bytes = LOGITS_BYTES if setting.on_cpu else GPU_LOGITS_BYTES
    chunk = max(1, chunk_bytes // (4 * shape.vocabulary))
    return min(batch.labelled, chunk) * per_token + 2 * batch.labelled * shape.hidden * setting.dtype_bytes


def passing_bytes(setting: Setting) -> int:
    """Return the temporary bytes of one layer's backward pass.

    They are gradients in the MLP, float32 copies in the norm, and a copy of the largest linear layer.
    """
    shape, batch = setting.shape, setting.batch
    largest = max((layer.weights for layer in shape.linear), default=0) * setting.dtype_bytes
    return batch.tokens * (4 * shape.inner * setting.dtype_bytes + 12 * shape.hidden) + largest


def step_flops(setting: Setting, *, tokens: int, labelled: int, length: float) -> float:
    """Return the FLOP of the forward and backward passes over `tokens` tokens.

    Args:
        setting: Model and adapter of the training; its batch doesn't matter.
        tokens: Number of tokens, padding included.
        labelled: Number of tokens with loss among them.
        length: Mean length of the texts in tokens.
    """
    shape = setting.shape
    passes = 4 + (2 if setting.checkpointing else 0) + (2 if setting.adapter is None else 0)
    attention = 3 * 2 * shape.layers * shape.queries * length
    per_token = passes * (shape.linear_weights + shape.expert_weights) + attention
    if setting.adapter is not None:
        per_token += 6 * trained_weights(setting)
    head = 0 if shape.outputs else (4 if setting.adapter is not None else 6) * shape.vocabulary * shape.hidden
    return tokens * per_token + labelled * head


def ways_out(setting: Setting, room: int, accumulation: int = 1) -> list[tuple[str, int]]:
    """Return changes of settings that save memory, in order, until the training fits into `room` bytes.

    Each is (text for the command line, such as `adapter=lora`, peak memory in bytes after this change and all
    before it). If the training doesn't fit after the last one, no change is left to try; the list is empty if
    none saves memory.

    Args:
        setting: The training.
        room: Bytes of memory that it may take.
        accumulation: Microbatches per optimizer step, so that smaller batches keep the step's size.
    """
    changes: list[tuple[str, int]] = []
    before = sum(peak_parts(setting).values())

    def change(description: str, changed: Setting) -> Setting:
        peak = sum(peak_parts(changed).values())
        if peak < (changes[-1][1] if changes else before):
            changes.append((description, peak))
        return changed

    def fits() -> bool:
        return bool(changes) and changes[-1][1] <= room

    if not (setting.checkpointing or setting.offloading):
        setting = change("train.gradient_checkpointing=true", replace(setting, checkpointing=True))
    rows, factor = setting.batch.rows, 1
    while not fits() and rows > 1:
        rows, factor = -(-rows // 2), 2 * factor
        steps = f"train.gradient_accumulation_steps={factor * accumulation}"
        description = f"train.per_device_batch_size={rows} {steps}"
        setting = change(description, replace(setting, batch=smaller(setting.batch, rows)))
    if not fits() and setting.adapter is None:
        setting = change("adapter=lora", replace(setting, adapter=AdapterConfig(), masters=False))
    if not fits() and setting.quantization.method is QuantizationMethod.none:
        nf4 = QuantizationConfig(method=QuantizationMethod.nf4)
        change("quantization=nf4", replace(setting, quantization=nf4))
    return changes


def smaller(batch: Batch, rows: int) -> Batch:
    """Return the sizes of a batch of `rows` rows with the mean length and labels per row of `batch`."""
    share = rows / batch.rows
    return Batch(rows, *(int(count * share) for count in (batch.tokens, batch.labelled)))
