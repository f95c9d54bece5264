"""The plan step: forecasts memory and time of a training, and suggests changes if the memory is too small."""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from workbench.api.examples import Examples
from workbench.config import Config
from workbench.config.model import Architecture
from workbench.config.plan import Gpu
from workbench.distributed import rank_and_world_size
from workbench.errors import ConfigError
from workbench.machine import available_bytes, resident_bytes
from workbench.models.device import torch_device
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import run_autocast_dtype
from workbench.pipeline.training_rows import encoded_examples
from workbench.run_dir import RunDir
from workbench.training.estimate.memory import Batch, Setting, Shape, peak_parts, shown, step_flops, ways_out
from workbench.training.estimate.workload import duration, forecast, product_rate, text_lengths

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
"""GPU -> GB of memory, and TFLOP/s of dense half-precision products, from the data sheets."""
CPU_EFFICIENCY, GPU_EFFICIENCY = 0.4, 0.35
"""Speed of LoRA training as a share of the speed of matrix products. On a CPU 0.54 was measured on rows
without padding (tests/performance/model.py), and shorter texts reach less; the value for GPUs is a guess."""


def plan(run: Run) -> None:
    """Log the memory and time that the training of this configuration needs, without loading the model.

    It encodes the rows as training does; the Python interface has no function for it.
    """
    with TemporaryDirectory() as folder:
        if run.config.data.streaming:  # encoded rows are written to disk, but not into the run's folder
            run = replace(run, run_dir=RunDir(Path(folder)))
        examples = encoded_examples(run)
        log.info("data: %s", examples.training.account)
        log_forecast(run, examples)


def log_forecast(run: Run, examples: Examples) -> None:
    """Log the peak memory by component, the time, and settings that fit if the memory is too small.

    Raises:
        ConfigError: A row is longer than the model's context.
    """
    config = run.config
    check_lengths(run, examples)
    work = forecast(examples.training.dataset, config.train, config.seed)
    setting, dtype = memory_setting(run, len(examples.labels), work.largest)
    peak, available = peak_parts(setting), training_bytes(config)
    device = config.plan.gpu.value if config.plan.gpu else torch_device(config.model.device).type
    log.info("plan: %s of %.1f on %s", shown(peak), available / 2**30, device)
    flops = step_flops(setting, tokens=work.tokens, labelled=work.labelled, length=work.mean_length)
    rate = flops_per_second(config, setting, dtype)
    time = f", about {duration(flops / (rate * rank_and_world_size()[1]))}" if rate else ""
    log.info("plan: %d steps, %s tokens%s", work.steps, f"{work.tokens:,}", time)
    if sum(peak.values()) > available:
        changes = ways_out(setting, available)
        log.warning("plan: this does not fit%s", "; change, in this order:" if changes else "")
        for change, peak_bytes in changes:
            log.warning("plan:   %s: %.2f GiB", change, peak_bytes / 2**30)
        if not changes or changes[-1][1] > available:
            log.warning("plan: it only fits with a smaller model or a lower data.max_length")


def check_lengths(run: Run, examples: Examples) -> None:
    """Check that no text is longer than the model's context.

    Raises:
        ConfigError: One is; the message names the first such row, and their number.
    """
    text_config = run.model_config.get_text_config()
    context = getattr(text_config, "max_position_embeddings", None)
    for encoded in (examples.training, examples.validation):
        if not context or context < 0 or encoded is None or max(encoded.dataset["length"]) <= context:
            continue
        rows = text_lengths(encoded.dataset, encoded.dataset["length"])  # of each text of a packed row
        too_long = [number for number, lengths in enumerate(rows) if max(lengths) > context]
        if not too_long:
            continue
        where, length = encoded.dataset[too_long[0]]["where"], max(rows[too_long[0]])
        way_out = f"data.max_length={context}"
        if getattr(text_config, "rope_parameters", None):
            way_out += ", or max_position_embeddings in config.json if the model was trained on longer texts"
        raise ConfigError(
            f"data.max_length: {where} has {length} tokens, the model's context has {context} "
            f"({len(too_long):,} of {len(rows):,} rows are longer; {way_out})"
        )


def memory_setting(run: Run, num_labels: int, largest: Batch) -> tuple[Setting, torch.dtype]:
    """Return what decides the memory of the training, and the dtype that is computed in."""
    config, dtype = run.config, run.model_dtype
    on_cpu = config.plan.gpu is None and torch_device(config.model.device).type == "cpu"
    has_all_logits = config.model.architecture is Architecture.native or not config.model.fused
    setting = Setting(
        shape=Shape.of(run.model_config, num_labels, native=has_all_logits),
        quantization=config.quantization,
        adapter=None if config.adapter.is_none else config.adapter,
        batch=largest,
        checkpointing=config.train.gradient_checkpointing,
        dtype_bytes=dtype.itemsize,
        masters=run_autocast_dtype(run) is not None,
        on_cpu=on_cpu,
    )
    return (setting.on_this_cpu(resident_bytes()) if on_cpu else setting), dtype


def training_bytes(config: Config) -> int:
    """Return the memory that a training can use."""
    if config.plan.memory_gib is not None:
        return int(config.plan.memory_gib * 2**30)
    if config.plan.gpu is not None:
        return GPUS[config.plan.gpu][0] * 10**9
    if torch_device(config.model.device).type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return available_bytes() + resident_bytes()


def flops_per_second(config: Config, setting: Setting, dtype: torch.dtype) -> float | None:
    """Return the expected speed of the training; None for a GPU without a data sheet in `GPUS`."""
    if config.plan.gpu is not None:
        return GPU_EFFICIENCY * GPUS[config.plan.gpu][1] * 1e12
    if not setting.on_cpu:
        return None
    return CPU_EFFICIENCY * product_rate(dtype, setting.shape.hidden, setting.shape.inner)
