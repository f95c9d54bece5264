"""What of a model's folder is code: modules named by `auto_map`, kernels of the Hub named as attention."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING

from workbench.errors import CheckpointError
from workbench.trust import check_trusted, is_trusted

IMPLEMENTATION = "_implementation"
"""End of the fields that name a kernel: `_attn_implementation`, `experts_implementation`, ..."""


def runs_model_code(described: Mapping[str, Any], file: Path) -> bool:
    """Whether the modules that come with a model are run: where there are any, and code is trusted.

    Args:
        described: the content of its config.json.
        file: config.json itself.

    Raises:
        ConfigError: transformers has no class of its own for the model, and code isn't trusted.
        CheckpointError: the configuration names a kernel of the Hub.
    """
    check_kernels(described, file)
    if not described.get("auto_map"):
        return False
    if described.get("model_type") in CONFIG_MAPPING and not is_trusted():
        return False
    check_trusted(f"{file}: auto_map", str(file.parent))
    return True


def runs_tokenizer_code(described: Mapping[str, Any], file: Path) -> bool:
    """Whether the module that comes with a tokenizer is run: where there is one, and code is trusted.

    Args:
        described: the content of its tokenizer_config.json.
        file: tokenizer_config.json itself.

    Raises:
        ConfigError: there is one, and neither a tokenizer.json nor trust in code.
    """
    names = described.get("auto_map")
    if not names or not (isinstance(names, list) or "AutoTokenizer" in names):
        return False
    if (file.parent / "tokenizer.json").is_file() and not is_trusted():
        return False
    check_trusted(f"{file}: auto_map", str(file.parent))
    return True


def check_kernels(described: Mapping[str, Any], file: Path) -> None:
    """Refuse a configuration that names a kernel of the Hub, which would be fetched and run.

    Raises:
        CheckpointError: names the field and the kernel.
    """
    for key, value in _fields(described):
        if key.endswith(IMPLEMENTATION) and isinstance(value, str) and "/" in value:
            raise CheckpointError(
                f"{file}: {key}={value!r} names a kernel of the Hub, which is not run (take the field out; "
                "model.attention chooses a kernel that is installed)"
            )


def _fields(values: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values of nested mappings."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield str(key), value
            yield from _fields(value)
    elif isinstance(values, list):
        for value in values:
            yield from _fields(value)
