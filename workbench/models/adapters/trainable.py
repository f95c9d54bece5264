"""Checks that the sections of a training are compatible, without the model's weights."""

from workbench.config.adapter import LORA_METHODS, AdapterConfig, AdapterInit, AdapterMethod
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.train import TrainConfig
from workbench.distributed import is_sharded, rank_and_world_size
from workbench.errors import ConfigError
from workbench.models.adapters.init_from_weights import FROM_WEIGHTS
from workbench.models.adapters.methods import check_method
from workbench.models.adapters.peft_config import check_options
from workbench.models.adapters.targets import check_base


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
    if not adapter.is_none:
        check_base(model)
    elif quantization.method is not QuantizationMethod.none:
        raise ConfigError(
            f"adapter.method: 'none' trains the model's own weights, which can't be in "
            f"{quantization.method.value} (adapter=lora, or quantization=none)"
        )
