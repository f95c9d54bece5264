"""Logs a forecast of a training's memory and time, and what to change where it needs too much memory."""

import logging

import torch

from workbench.api.examples import Examples
from workbench.config import Config
from workbench.config.adapter import LORA_METHODS, AdapterConfig, AdapterMethod
from workbench.config.plan import Gpu
from workbench.distributed import rank_and_world_size
from workbench.errors import ConfigError
from workbench.machine import available_bytes, resident_bytes
from workbench.models.adapters.attach import count_trained
from workbench.models.architecture import is_native
from workbench.models.device import EMULATED, emulated_dtype, torch_device
from workbench.models.dtypes import chosen_dtype
from workbench.models.loading import outline
from workbench.models.merging.adapter_updates import NotStreamable
from workbench.models.ops.cpu_attention import multiplies_bfloat16
from workbench.models.trials.without_weights import will_chunk_loss
from workbench.pipeline.plan.merge_forecast import forecast_merge
from workbench.pipeline.plan.planned_adapter import planned_adapter
from workbench.pipeline.plan.stored_activations import layer_factor, saved_by_layers
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import run_autocast_dtype
from workbench.training.arguments import SCALED, UNSCALED
from workbench.training.estimate.memory import (
    NATIVE,
    Batch,
    Setting,
    Shape,
    peak_parts,
    step_flops,
    ways_out,
)
from workbench.training.estimate.workload import (
    RowSizes,
    forecast,
    in_words,
    product_rate,
    row_sizes,
    text_lengths,
)
from workbench.wrapping import wrapped

log = logging.getLogger("workbench")

GPUS = {
    Gpu["t4"]: (16, 65),
    Gpu["v100-32gb"]: (32, 125),
    Gpu["l4"]: (24, 121),
    Gpu["a10"]: (24, 125),
    Gpu["rtx-3090"]: (24, 71),
    Gpu["rtx-4090"]: (24, 165),
    Gpu["a100-40gb"]: (40, 312),
    Gpu["a100-80gb"]: (80, 312),
    Gpu["h100"]: (80, 989),
    Gpu["h200"]: (141, 989),
}
"""GPU -> GB of memory, and TFLOP/s of dense half-precision products, from the makers' data sheets."""
BEFORE_BFLOAT16 = (Gpu["t4"], Gpu["v100-32gb"])
"""GPUs whose tensor cores take float16 only."""
REACHED_CPU, REACHED_GPU = 0.4, 0.35
"""Share of the rate of matrix products that training with LoRA reaches. On a CPU 0.54 was measured in rows
without padding (tests/performance/model.py), and shorter texts reach less; the share on a GPU is a guess."""
COLUMNS = 80
NO_BREAK = "\N{NO-BREAK SPACE}"
"""Keeps a name and its number on one line."""


def log_forecast_of_examples(run: Run, examples: Examples) -> None:
    """Log the memory and time that a training on these examples will need, as `log_forecast` does.

    Raises:
        ConfigError: A text is longer than the model's context.
    """
    check_lengths(run, examples)
    log_forecast(run, row_sizes(examples.training.dataset), len(examples.labels))


def log_forecast(run: Run, rows: RowSizes, num_classes: int, *, is_one_step: bool = False) -> None:
    """Log a training's peak memory by purpose, its time, and if it doesn't fit into memory, what to change.

    Args:
        run: The run.
        rows: Sizes of the training rows.
        num_classes: Number of classes of a classifier; 0 for a causal model.
        is_one_step: Whether `rows` are those of one step, because the number of rows is unknown.

    Raises:
        DeviceError: `model.device` is CUDA, which this machine lacks.
    """
    config = run.config
    work = forecast(rows, config.train, config.seed)
    setting = setting_of(run, num_classes, work.largest)
    parts, room = peak_parts(setting), room_bytes(config)
    where = config.plan.gpu.value if config.plan.gpu else torch_device(config.model.device).type
    say(f"{gib(sum(parts.values()))} of {gib(room)} GiB at the peak on {where}")
    say("  " + ", ".join(f"{name}{NO_BREAK}{gib(size)}" for name, size in parts.items() if size >= 2**20))
    if parts["logits"] and setting.shape.stores_logits and config.model.fused:
        say(
            "it may be less: all logits are counted, since a trial without weights doesn't find the model's "
            "loss to be that of its head's output"
        )
    log_dtype(run, setting.on_cpu)
    flops = step_flops(setting, tokens=work.tokens, labelled=work.labelled, length=work.mean_length)
    rate = reached_rate(config, setting, run.model_dtype)
    about = "about" if config.plan.gpu is None else "at least"  # small batches wait for the GPU's launches
    time = f", {about} {in_words(flops / (rate * rank_and_world_size()[1]))}" if rate else ""
    if is_one_step:
        say(f"a step: {work.tokens:,} tokens{time} (train.max_steps or data.path gives the number of steps)")
    else:
        say(f"{work.steps:,} steps, {work.tokens:,} tokens with padding{time}")
    if not has_matrices(config.adapter):
        say(f"what {config.adapter.method.name} computes in each layer is not counted", logging.WARNING)
    if sum(parts.values()) > room:
        log_ways_out(setting, room, config.train.gradient_accumulation_steps)
    if setting.adapter is not None:
        log_merge_forecast(run, setting, max(rows.lengths))


def log_dtype(run: Run, on_cpu: bool) -> None:
    """Log what the number format means on the planned device: emulation, or float16's loss scaling."""
    gpu, dtype = run.config.plan.gpu, run.model_dtype
    if gpu in BEFORE_BFLOAT16 and dtype is torch.bfloat16:
        say(EMULATED.format(gpu.value), logging.WARNING)
    elif gpu is None and (slow := emulated_dtype(dtype, torch_device(run.config.model.device))):
        say(slow, logging.WARNING)
    if dtype is torch.float16:
        say(f"float16: {UNSCALED if on_cpu else SCALED}")


def log_merge_forecast(run: Run, setting: Setting, longest: int) -> None:
    """Log the memory and disk space that merging the adapter will take.

    Args:
        run: The run.
        setting: The planned training, of an adapter.
        longest: Number of tokens of the longest row.
    """
    config = run.config
    size = chosen_dtype(config.merge.dtype, run.model_dtype).itemsize
    try:
        empty_model = outline(config.model, setting.shape.outputs or None)
        merge = forecast_merge(empty_model, setting, size, longest, run.bytes_at_start)
    except NotStreamable as reason:
        say(f"to merge, the whole model is in memory: {reason}")
        return
    proof = f", {gib(merge.proof_memory)} GiB with the proof on texts (merge.probe)"
    proof = proof if config.merge.probe else ""
    say(f"to merge: {gib(merge.memory)} GiB at the peak{proof}, {gib(merge.disk)} GiB on the disk")


def log_ways_out(setting: Setting, room: int, accumulation: int) -> None:
    """Log which settings to change so that a training fits into `room` bytes, or that none is enough.

    `accumulation` is the number of microbatches per optimizer step.
    """
    ways = ways_out(setting, room, accumulation)
    say(f"this does not fit{'; change, in this order:' if ways else ''}", logging.WARNING)
    for change, peak in ways:
        say(f"  {gib(peak)} GiB with {change}", logging.WARNING)
    if not ways or ways[-1][1] > room:
        say("it only fits with a smaller model or a lower data.max_length", logging.WARNING)


def say(text: str, level: int = logging.INFO) -> None:
    """Log a text in lines of at most 80 columns, each of which begins with `plan: `."""
    for line in wrapped(f"plan: {text}", COLUMNS, indent="plan:     "):
        log.log(level, "%s", line.replace(NO_BREAK, " "))


def gib(num_bytes: int) -> str:
    """Return a number of bytes as text in GiB without the unit, as in `1.50`."""
    return f"{num_bytes / 2**30:.2f}"


def check_lengths(run: Run, examples: Examples) -> None:
    """Refuse texts, also held-out ones, that are longer than the model's context.

    Raises:
        ConfigError: A text is too long; the message names its row and how many are too long.
    """
    described = run.model_config.get_text_config()
    room = getattr(described, "max_position_embeddings", None)
    for rows in (examples.training, examples.validation):
        if not room or room < 0 or rows is None or max(rows.dataset["length"]) <= room:
            continue
        texts = text_lengths(rows.dataset, rows.dataset["length"])
        longer = [number for number, lengths in enumerate(texts) if max(lengths) > room]
        if not longer:
            continue
        where, length = rows.dataset[longer[0]]["where"], max(texts[longer[0]])
        way_out = f"data.max_length={room}"
        if getattr(described, "rope_parameters", None):
            way_out += ", or max_position_embeddings in config.json if the model was trained on longer texts"
        raise ConfigError(
            f"data.max_length: {where} has {length} tokens, the model's context has {room} "
            f"({len(longer):,} of {len(texts):,} rows are longer; {way_out})"
        )


def setting_of(run: Run, num_classes: int, largest: Batch) -> Setting:
    """Return everything that decides how much memory a run's training needs, without loading the model.

    Args:
        run: The run.
        num_classes: Number of classes of a classifier; 0 for a causal model.
        largest: Sizes of the largest microbatch.

    Raises:
        WorkbenchError: The model's configuration is invalid, or doesn't give a size.
    """
    config = run.config
    on_cpu = config.plan.gpu is None and torch_device(config.model.device).type == "cpu"
    empty_model = outline(config.model, num_classes or None)
    is_chunked = config.model.fused and (not is_native(config.model) or will_chunk_loss(empty_model))
    factor = layer_factor(run, empty_model)
    saved = saved_by_layers(run, num_classes, on_cpu=on_cpu) if factor == NATIVE else None
    shape = Shape.of(empty_model, num_classes, factor=factor, stores_logits=not is_chunked, saved=saved)
    setting = Setting(
        shape=shape,
        quantization=config.quantization,
        adapter=None if config.adapter.is_none else planned_adapter(config.adapter),
        batch=largest,
        checkpointing=config.train.gradient_checkpointing,
        dtype_bytes=run.model_dtype.itemsize,
        masters=run_autocast_dtype(run) is not None,
        optimizer=config.train.optimizer,
        offloading=config.train.activation_offloading and not on_cpu,
        shares=rank_and_world_size()[1] if config.train.fsdp else 1,
        on_cpu=on_cpu,
        repeats_keys=not multiplies_bfloat16(),
        adapter_weights=None if has_matrices(config.adapter) else count_trained(empty_model, config.adapter),
    )
    return setting.on_this_cpu(resident_bytes()) if on_cpu else setting


def has_matrices(adapter: AdapterConfig) -> bool:
    """Return False for a new adapter of a method without LoRA's matrices A and B; else True."""
    return adapter.path is not None or adapter.method in (AdapterMethod.none, *LORA_METHODS)


def room_bytes(config: Config) -> int:
    """Return the bytes of memory that a training may take: `plan.memory_gib`, else the memory of `plan.gpu`.

    Else it is the free memory of this GPU, or the available memory of this machine plus that of this process.

    Raises:
        DeviceError: `model.device` is CUDA, which this machine lacks.
    """
    if config.plan.memory_gib is not None:
        return int(config.plan.memory_gib * 2**30)
    if config.plan.gpu is not None:
        return GPUS[config.plan.gpu][0] * 10**9
    device = torch_device(config.model.device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes() + resident_bytes()


def reached_rate(config: Config, setting: Setting, dtype: torch.dtype) -> float | None:
    """Return the FLOP per second that a training will reach on `plan.gpu`, or on this CPU, which is measured.

    None on a GPU of this machine if `plan.gpu` isn't given. `dtype` is that of matrix products on the CPU.
    """
    if config.plan.gpu is not None:
        return REACHED_GPU * GPUS[config.plan.gpu][1] * 1e12
    if not setting.on_cpu:
        return None
    return REACHED_CPU * product_rate(dtype, setting.shape.hidden, setting.shape.inner)
