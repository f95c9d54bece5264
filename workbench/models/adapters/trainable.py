"""Checks that the sections of a training are compatible, without the model's weights."""

from workbench.config.adapter import LORA_METHODS, AdapterConfig, AdapterInit, AdapterMethod
from workbench.config.model import ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.train import TrainConfig
from workbench.distributed import is_sharded, rank_and_world_size
from workbench.errors import ConfigError
from workbench.models.adapters.init_from_weights import FROM_WEIGHTS
from workbench.models.adapters.methods import check_method
from workbench.models.adapters.peft_config import check_options
from workbench.models.adapters.targets import check_base
from workbench.models.architecture import is_native

WITH_FSDP = ("base", "rank", "alpha", "dropout", "target_modules", "use_rslora", "rank_pattern")
"""Keys of the section `adapter` that may differ from their defaults with `train.fsdp`."""


def check_trainable(
    model: ModelConfig, quantization: QuantizationConfig, adapter: AdapterConfig, train: TrainConfig
) -> None:
    """Check that model, quantization, adapter and training are compatible.

    Raises:
        ConfigError: Two settings are incompatible; the message names the key to change.
    """
    if adapter.path is None:
        check_method(adapter.method, quantization)
        check_options(adapter, train.max_steps if train.max_steps > 0 else None)
        if adapter.method not in (AdapterMethod.none, *LORA_METHODS) and train.lora_plus_ratio != 1:
            raise ConfigError(
                f"train.lora_plus_ratio: {adapter.method.name} has no matrices A and B (set it to 1)"
            )
    if adapter.init is AdapterInit.eva and rank_and_world_size()[1] > 1:
        raise ConfigError("adapter.init: eva is computed by one process (run it without torchrun)")
    if adapter.method is AdapterMethod.adalora and rank_and_world_size()[1] > 1:
        raise ConfigError(
            "adapter.method: adalora removes ranks by the gradients of one process (run it without torchrun)"
        )
    if adapter.init in FROM_WEIGHTS and train.weight_decay:
        raise ConfigError(
            f"train.weight_decay: {train.weight_decay} would shrink the start values of adapter.init="
            f"{adapter.init.name}, which are subtracted again (set it to 0)"
        )
    if adapter.init in FROM_WEIGHTS and is_sharded():
        raise ConfigError(
            f"adapter.init: {adapter.init.name!r} is not supported with FSDP, which shards its halves "
            "separately (adapter.init=default, or DDP)"
        )
    if train.fsdp:
        check_fsdp(model, quantization, adapter, train)
    if not adapter.is_none:
        check_base(model)
    elif quantization.method is not QuantizationMethod.none:
        raise ConfigError(
            f"adapter.method: 'none' trains the model's own weights, which can't be in "
            f"{quantization.method.value} (adapter=lora, or quantization=none)"
        )


def check_fsdp(
    model: ModelConfig, quantization: QuantizationConfig, adapter: AdapterConfig, train: TrainConfig
) -> None:
    """Check that a training can split its base's weights over the processes (`train.fsdp`).

    Raises:
        ConfigError: It can't; the message names what is in the way.
    """
    plain = vars(AdapterConfig())
    changed = [key for key in plain if key not in WITH_FSDP and getattr(adapter, key) != plain[key]]
    faults = (
        (is_sharded(), "accelerate's own FSDP is on, too (train.fsdp=false, or launch without FSDP)"),
        (
            quantization.method is not QuantizationMethod.none,
            f"weights in {quantization.method.value} aren't split (quantization=none, or false)",
        ),
        (model.task is not Task.causal_lm, "a classifier isn't split (false)"),
        (bool(changed), f"split weights don't go with adapter.{'.'.join(changed[:1])} (drop it, or false)"),
        (bool(train.score_on), "split weights can't be scored (drop train.score_on, or false)"),
        (bool(train.sample_answers), "split weights don't decode (train.sample_answers=0, or false)"),
        (
            train.activation_offloading,
            "train.activation_offloading would copy gathered weights, too (gradient_checkpointing, or false)",
        ),
        (bool(model.init), "a new model isn't split (false)"),
    )
    reason = next((reason for is_fault, reason in faults if is_fault), "")
    if not reason and is_native(model):
        reason = "transformers' own class of this model isn't split, only Open-Llama is (false)"
    elif not reason and rank_and_world_size()[1] == 1:
        reason = "there is only one process (torchrun --nproc-per-node 2, or false)"
    if reason:
        raise ConfigError(f"train.fsdp: {reason}")
