"""Decides whether to run code of others: a model folder's modules (`auto_map`), and kernels from the Hub."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING

from workbench.errors import CheckpointError
from workbench.models.checkpoints import chatglm
from workbench.trust import check_trusted, is_trusted

IMPLEMENTATION = "_implementation"
"""Suffix of fields that name a kernel: `_attn_implementation`, `experts_implementation`, ..."""


def runs_model_code(config: Mapping[str, Any], file: Path) -> bool:
    """Return whether to run the Python modules of a model: it has some, and the user trusts its code.

    False, if the user doesn't, for a model that transformers has a class for.

    Args:
        config: Content of config.json.
        file: Path of config.json.

    Raises:
        ConfigError: Transformers has no class for the model, and the user doesn't trust its code.
        CheckpointError: The configuration names a kernel on the Hub.
    """
    check_kernels(config, file)
    if not config.get("auto_map"):
        return False
    is_known = config.get("model_type") in CONFIG_MAPPING or config.get("model_type") == chatglm.MODEL_TYPE
    if is_known and not is_trusted():
        return False
    check_trusted(f"{file}: auto_map", str(file.parent))
    return True


def runs_tokenizer_code(config: Mapping[str, Any], file: Path) -> bool:
    """Return whether to run a tokenizer's Python module: it has one, and the user trusts its code.

    False, if the user doesn't, for a tokenizer that has tokenizer.json, too.

    Args:
        config: Content of tokenizer_config.json.
        file: Path of tokenizer_config.json.

    Raises:
        ConfigError: The tokenizer has a module and no tokenizer.json, and the user doesn't trust its code.
    """
    names = config.get("auto_map")
    if not names or not (isinstance(names, list) or "AutoTokenizer" in names):
        return False
    if (file.parent / "tokenizer.json").is_file() and not is_trusted():
        return False
    check_trusted(f"{file}: auto_map", str(file.parent))
    return True


def check_kernels(config: Mapping[str, Any], file: Path) -> None:
    """Refuse a configuration that names a kernel on the Hub, which transformers would download and run.

    Args:
        config: Content of a config.json, with nested objects.
        file: Path of config.json, for messages.

    Raises:
        CheckpointError: A field names such a kernel.
    """
    for key, value in _fields(config):
        if key.endswith(IMPLEMENTATION) and isinstance(value, str) and "/" in value:
            raise CheckpointError(
                f"{file}: {key}={value!r} names a kernel on the Hub, which is not run (remove the field; "
                "model.attention chooses an installed kernel)"
            )


def _fields(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys and values of nested mappings."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield str(key), value
            yield from _fields(value)
    elif isinstance(values, list):
        for value in values:
            yield from _fields(value)
