"""Describes the adapter that a training is planned with."""

from dataclasses import replace

from workbench.config.adapter import ALL_LINEAR, AdapterConfig
from workbench.models.adapters import adapter_config


def planned_adapter(adapter: AdapterConfig) -> AdapterConfig:
    """Return the adapter section as a training would use it.

    If an adapter is trained further (`adapter.path`), the result is a copy with its rank, layers and dropout.

    Raises:
        CheckpointError: There is no adapter at `adapter.path`.
    """
    if adapter.path is None:
        return adapter
    stored = adapter_config.read_config(adapter.path)
    targets = getattr(stored, "target_modules", None)
    return replace(
        adapter,
        rank=getattr(stored, "r", None) or adapter.rank,
        target_modules=sorted(targets) if isinstance(targets, list | set) else [ALL_LINEAR],
        rank_pattern=getattr(stored, "rank_pattern", None) or {},
        dropout=getattr(stored, "lora_dropout", None) or 0.0,
    )
