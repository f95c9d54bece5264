"""Checks that a model and its rows allow the settings of the train section, before the first step."""

import logging
import warnings

import torch
from peft import PeftModel

from workbench.config.train import Keep
from workbench.distributed import is_sharded
from workbench.errors import ConfigError
from workbench.training.arguments import SCALED, UNSCALED, scales_loss
from workbench.training.build_trainer import Training
from workbench.training.rank_allocation import adalora_layers

log = logging.getLogger("workbench")


def check_settings(training: Training) -> None:
    """Check that the model and the rows allow the settings of the train section.

    Raises:
        ConfigError: The model is split over several GPUs; LoRA+ is set without an adapter; AdaLoRA would be
            trained in float16; float16 weights would be trained on a GPU; or the best checkpoint or early
            stopping is set, without validation rows or a score.
    """
    model, train = training.model, training.train
    if len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
        raise ConfigError(
            "train: the model is split over several GPUs, since its weights don't fit on one, and is not "
            "trained so (quantization=nf4, or accelerate launch with FSDP)"
        )
    if train.lora_plus_ratio != 1.0 and not isinstance(model, PeftModel):
        raise ConfigError(
            "train.lora_plus_ratio: the model has no adapter with A and B matrices (set it to 1)"
        )
    is_half = torch.float16 in (training.autocast, model.dtype)
    if scales_loss(model, training.autocast):
        log.info("train: float16: %s", SCALED)
        if any(p.requires_grad and p.dtype is torch.float16 for p in model.parameters()):
            raise ConfigError(
                "train.precision: float16 weights can't be trained with loss scaling (mixed, which trains "
                "them in float32, or model.dtype=bfloat16)"
            )
    elif is_half:
        log.warning("train: float16: %s", UNSCALED)
    if is_half and adalora_layers(model) is not None:
        raise ConfigError(
            "adapter.method: adalora compares gradients of many steps, which float16 scales differently "
            "(model.dtype=float32)"
        )
    if train.optimizer.is_paged and model.device.type == "cpu":
        log.info("train.optimizer: %s is not paged on a CPU", train.optimizer.value)
        warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
    if train.activation_offloading and model.device.type == "cpu":
        log.info("train.activation_offloading: without effect on a CPU")
    if is_sharded() and model.device.type == "cpu":
        log.warning("train: accelerate's FSDP needs GPUs; on CPUs each process holds the full model (DDP)")
    if train.chooses and training.metric is None:
        key = "keep" if train.keep is Keep.best else "patience"
        raise ConfigError(f"train.{key}: there are no validation rows (set data.validation_fraction)")
