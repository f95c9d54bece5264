"""The plan step: what a training will need, and what to change where that is too much."""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from workbench.config import Config
from workbench.config.model import Architecture
from workbench.config.plan import Gpu
from workbench.distributed import rank_and_world_size
from workbench.errors import ConfigError
from workbench.machine import available_bytes, resident_bytes
from workbench.models.device import torch_device
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import autocast_dtype, trains_whole_model
from workbench.pipeline.training_rows import Examples, encoded_examples
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
"""GB of memory, and TFLOP/s of dense half-precision products, from the makers' data sheets."""
REACHED_CPU, REACHED_GPU = 0.4, 0.35
"""Of the rate of matrix products, in training with LoRA: 0.54 was measured on a CPU in rows without padding
(tests/performance/model.py), shorter texts reach less; the one for a GPU is a guess."""


def plan(run: Run) -> None:
    """Say what the training of this configuration will need, without loading the model."""
    with TemporaryDirectory() as folder:
        if run.config.data.streaming:  # the rows go to the disk as tokens, but not into the run's folder
            run = replace(run, run_dir=RunDir(Path(folder)))
        examples = encoded_examples(run)
        log.info("data: %s", examples.training.account)
        foresee(run, examples)


def foresee(run: Run, examples: Examples) -> None:
    """Log peak memory by part, time, and where it doesn't fit what to change.

    Raises:
        ConfigError: a row is longer than the model can read.
    """
    config = run.config
    check_lengths(run, examples)
    work = forecast(examples.training.dataset, config.train, config.seed)
    setting, dtype = planned(run, len(examples.labels), work.largest)
    parts, room = peak_parts(setting), room_bytes(config)
    place = config.plan.gpu.value if config.plan.gpu else torch_device(config.model.device).type
    limit = f" of {room / 2**30:.1f}"
    log.info("plan: %s%s on %s", shown(parts), limit, place)
    flops = step_flops(setting, tokens=work.tokens, labelled=work.labelled, length=work.mean_length)
    rate = products(config, setting, dtype)
    time = f", about {duration(flops / (rate * rank_and_world_size()[1]))}" if rate else ""
    log.info("plan: %d steps, %s tokens%s", work.steps, f"{work.tokens:,}", time)
    if sum(parts.values()) > room:
        ways = ways_out(setting, room)
        log.warning("plan: this does not fit%s", "; what to change, one after the other:" if ways else "")
        for said, peak in ways:
            log.warning("plan:   %s: %.2f GiB", said, peak / 2**30)
        if not ways or ways[-1][1] > room:
            log.warning("plan: more than that helps only a smaller model or a lower data.max_length")


def check_lengths(run: Run, examples: Examples) -> None:
    """Refuse a text longer than the model's context: it has no positions, or none that it was trained on.

    Raises:
        ConfigError: names the first row of such a text, and how many there are.
    """
    described = run.model_config.get_text_config()
    room = getattr(described, "max_position_embeddings", None)
    for part in (examples.training, examples.validation):
        if not room or room < 0 or part is None or max(part.dataset["length"]) <= room:
            continue
        texts = text_lengths(part.dataset, part.dataset["length"])
        longer = [number for number, lengths in enumerate(texts) if max(lengths) > room]
        if not longer:
            continue
        where, length = part.dataset[longer[0]]["where"], max(texts[longer[0]])
        way_out = f"data.max_length={room}"
        if getattr(described, "rope_parameters", None):
            way_out += ", or max_position_embeddings in the config.json of a model that is made for more"
        raise ConfigError(
            f"data.max_length: {where} has {length} tokens, the model's context has {room} "
            f"({len(longer):,} of {len(texts):,} rows are longer; {way_out})"
        )


def planned(run: Run, outputs: int, largest: Batch) -> tuple[Setting, torch.dtype]:
    """What decides the memory, and the type that is computed in."""
    config, dtype = run.config, run.model_dtype
    on_cpu = config.plan.gpu is None and torch_device(config.model.device).type == "cpu"
    holds_logits = config.model.architecture is Architecture.native or not config.model.fused
    setting = Setting(
        shape=Shape.of(run.model_config, outputs, native=holds_logits),
        quantization=config.quantization,
        adapter=None if trains_whole_model(config) else config.adapter,
        batch=largest,
        checkpointing=config.train.gradient_checkpointing,
        dtype_bytes=dtype.itemsize,
        masters=autocast_dtype(run) is not None,
        on_cpu=on_cpu,
    )
    return (setting.on_this_cpu(resident_bytes()) if on_cpu else setting), dtype


def room_bytes(config: Config) -> int:
    """Memory that a training may take."""
    if config.plan.memory_gib is not None:
        return int(config.plan.memory_gib * 2**30)
    if config.plan.gpu is not None:
        return GPUS[config.plan.gpu][0] * 10**9
    if torch_device(config.model.device).type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return available_bytes() + resident_bytes()


def products(config: Config, setting: Setting, dtype: torch.dtype) -> float | None:
    """Operations a second that the training will reach; None for a GPU that isn't known."""
    if config.plan.gpu is not None:
        return REACHED_GPU * GPUS[config.plan.gpu][1] * 1e12
    if not setting.on_cpu:
        return None
    return REACHED_CPU * product_rate(dtype, setting.shape.hidden, setting.shape.inner)
