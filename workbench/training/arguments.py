"""Translates the section `train` of the configuration into the arguments of transformers' Trainer."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from workbench.config.train import Keep, Scheduler, TrainConfig
from workbench.errors import ConfigError

log = logging.getLogger("workbench")

SCHEDULERS = {
    Scheduler["constant"]: "constant_with_warmup",
    Scheduler["linear"]: "linear",
    Scheduler["cosine"]: "cosine",
    Scheduler["inverse-sqrt"]: "inverse_sqrt",
}


SCALED = (
    "the loss is scaled, so that small gradients don't vanish; a step whose gradients overflow is skipped"
)
UNSCALED = "small gradients vanish on a CPU, which has no loss scaling (model.dtype=bfloat16 or float32)"
"""What is said of a training in float16, on a GPU and on a CPU."""


def scales_loss(model: PreTrainedModel | PeftModel, autocast: torch.dtype | None) -> bool:
    """Return whether a training scales its loss: in float16 on a GPU.

    Args:
        model: The model; an adapter's weights are in float32, also on a float16 model.
        autocast: 16-bit dtype of matrix products with float32 weights, or None.
    """
    return model.device.type != "cpu" and torch.float16 in (autocast, model.dtype)


def half_precision(model: PreTrainedModel | PeftModel, autocast: torch.dtype | None) -> tuple[bool, bool]:
    """Return the Trainer's arguments `bf16` and `fp16`, of which `fp16` scales the loss; see `scales_loss`.

    A CPU has no loss scaling, which float16 needs; bfloat16 has the range of float32. Both arguments turn the
    Trainer's own autocast on; without `autocast`, `build_trainer` turns it off, and the scaling remains.
    """
    in_bf16 = model.device.type == "cpu" or autocast is torch.bfloat16
    return autocast is not None and in_bf16, scales_loss(model, autocast)


def check_loggers(names: Sequence[str]) -> None:
    """Check that the loggers of `train.report_to` are known and installed; TensorBoard may be missing.

    Raises:
        ConfigError: The Trainer doesn't know a logger, or its package isn't installed.
    """
    for name in names:
        if name in ("tensorboard", "all", "none"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(INTEGRATION_TO_CALLBACK)
            raise ConfigError(f"train.report_to: unknown logger {name!r} (known: {known})")
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            raise ConfigError(f"train.report_to: {name!r} can't be used, {str(error).rstrip('.')}") from error


def total_steps(num_batches: int, train: TrainConfig) -> int:
    """Return the number of optimizer steps of a training: `train.max_steps`, or those of `train.num_epochs`.

    `num_batches` is the number of batches that one rank takes in an epoch.
    """
    if train.max_steps > 0:
        return train.max_steps
    return math.ceil(train.num_epochs * math.ceil(num_batches / train.gradient_accumulation_steps))


def warmup_steps(train: TrainConfig, steps: int) -> float:
    """Return `train.warmup_steps` for the Trainer: a number of steps, or below 1 a fraction of all `steps`.

    Return 0 for a fraction that makes every step a warmup step: the first warmup step has rate 0, so that a
    training of one step would change nothing. A number that reaches `steps` is logged as a warning.
    """
    warmup = train.warmup_steps
    if 0 < warmup < 1 and math.ceil(warmup * steps) >= steps:
        return 0.0
    if warmup >= steps > 0:
        log.warning(
            "train.warmup_steps: %g of %d steps, so the rate never reaches train.learning_rate", warmup, steps
        )
    return warmup


def training_arguments(
    train: TrainConfig,
    folder: Path,
    seed: int,
    *,
    steps: int,
    metric: str | None,
    model: PreTrainedModel | PeftModel,
    autocast: torch.dtype | None = None,
) -> TrainingArguments:
    """Return the Trainer's arguments.

    Args:
        train: The section `train`.
        folder: Folder of the checkpoints.
        seed: Seed of row order and dropout.
        steps: Number of optimizer steps.
        metric: Metric that decides which checkpoint is best, `loss` or `score`; None: nothing is evaluated.
        model: The model; its device and kind (adapter or not) decide some arguments.
        autocast: 16-bit dtype of matrix products with float32 weights; None: the dtype of the weights.
    """
    keeps_best, on_cpu = metric is not None and train.keep is Keep.best, model.device.type == "cpu"
    bf16, fp16 = half_precision(model, autocast)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=train.learning_rate,
        optim=train.optimizer.value,
        lr_scheduler_type=SCHEDULERS[train.lr_scheduler],
        warmup_steps=warmup_steps(train, steps),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        per_device_train_batch_size=train.per_device_batch_size,
        per_device_eval_batch_size=train.per_device_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        activation_checkpointing=train.gradient_checkpointing,
        logging_steps=train.logging_steps,
        logging_nan_inf_filter=False,  # StepCallback stops at NaN instead of skipping it
        eval_strategy="steps" if metric else "no",
        eval_steps=train.save_steps,
        metric_for_best_model=metric if keeps_best else None,  # the Trainer keeps it and the newest
        greater_is_better=metric == "score",
        prediction_loss_only=True,
        save_steps=train.save_steps,
        save_only_model=getattr(model, "is_distributed_loading_by_transformers", False),  # see build_trainer
        save_total_limit=train.save_total_limit + keeps_best,
        report_to=[name for name in train.report_to if name != "tensorboard"] or "none",
        seed=seed,
        data_seed=seed,
        use_cpu=on_cpu,
        bf16=bf16,
        fp16=fp16,
        remove_unused_columns=False,  # the collator selects them, and needs row indices
        dataloader_pin_memory=not on_cpu,
        ddp_find_unused_parameters=False if isinstance(model, PeftModel) else None,  # an adapter uses all
        disable_tqdm=True,
        log_level="error",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # else it splits batches over all GPUs
    return arguments
