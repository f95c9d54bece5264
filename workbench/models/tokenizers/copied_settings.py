"""Reads the settings that a converted tokenizer takes from its folder as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError

COPIED = ("model_max_length", "padding_side", "chat_template", "clean_up_tokenization_spaces")
"""Fields of tokenizer_config.json that a converted tokenizer gets unchanged."""
TEMPLATE_FILE = "chat_template.jinja"


def copied_settings(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings that a converted tokenizer gets unchanged, by name.

    Args:
        settings: Content of tokenizer_config.json.
        folder: Its folder, whose chat_template.jinja has precedence over a template in `settings`.

    Raises:
        CheckpointError: chat_template.jinja is not UTF-8.
    """
    copied = {name: settings[name] for name in COPIED if settings.get(name) is not None}
    file = folder / TEMPLATE_FILE
    if file.is_file():
        try:
            copied["chat_template"] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{file}: not UTF-8 (byte {error.start:,})") from None
    return copied
