"""What can't be trained, told by the sections alone."""

from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.train import TrainConfig
from workbench.distributed import is_sharded
from workbench.errors import ConfigError
from workbench.models.adapters.init_from_weights import FROM_WEIGHTS
from workbench.models.adapters.targets import check_base


def check_trainable(
    model: ModelConfig, quantization: QuantizationConfig, adapter: AdapterConfig, train: TrainConfig
) -> None:
    """Refuse sections that don't go together.

    Raises:
        ConfigError: Names the key, and the way out.
    """
    if adapter.init in FROM_WEIGHTS and train.weight_decay:
        raise ConfigError(
            f"train.weight_decay: {train.weight_decay} would shrink what takes the start of "
            f"adapter.init={adapter.init.name} out again (set it 0)"
        )
    if adapter.init in FROM_WEIGHTS and is_sharded():
        raise ConfigError(
            f"adapter.init: {adapter.init.name!r} does not go with FSDP, which tears its halves apart "
            "(adapter.init=default, or DDP)"
        )
    if adapter.method is not AdapterMethod.none or adapter.path is not None:
        check_base(model)
    elif quantization.method is not QuantizationMethod.none:
        raise ConfigError(
            f"adapter.method: 'none' trains the model's own weights, which can't be in "
            f"{quantization.method.value} (adapter=lora, or quantization=none)"
        )
