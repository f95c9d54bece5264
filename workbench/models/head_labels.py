"""Reads the class names of a trained classification head, without loading the model."""

from workbench.config.model import ModelConfig
from workbench.models.adapters import adapter_config
from workbench.models.loading import has_trained_head, read_config


def head_labels(model: ModelConfig, adapter: str | None) -> list[str]:
    """Return the class names that the adapter at `adapter` was trained with, else those of the model's head.

    `adapter` is a folder or hub id. The names are in the order of class ids; none if neither has names, or
    if the model's are only LABEL_0, LABEL_1, ...

    Raises:
        ConfigError: `model.path` is not given.
        CheckpointError: There is no adapter or model, or a file is damaged.
    """
    if adapter is not None and (names := adapter_config.label_names(adapter)) is not None:
        return names
    if not has_trained_head(model):
        return []
    names_by_number = {int(number): name for number, name in (read_config(model)[0].id2label or {}).items()}
    is_named = any(name != f"LABEL_{number}" for number, name in names_by_number.items())
    return [names_by_number[number] for number in sorted(names_by_number)] if is_named else []
