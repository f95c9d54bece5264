"""Chooses the files of a folder that are sent to the Hub, and finds what shouldn't be sent as it is."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import first_line
from workbench.files import MODEL_CARD, parse_json
from workbench.leaderboard.outputs import card
from workbench.models.checkpoints.hub import HUB_ID
from workbench.shown import masked

SENT = (".safetensors", ".json", ".gguf", ".md", ".jinja", ".txt", ".model", ".yaml")
"""Kinds of files that are sent: weights without pickle, descriptions and tokenizers."""
ADAPTER_CONFIG = "adapter_config.json"
BASE_KEY = "base_model_name_or_path"
TOKENIZER, VOCABULARY = "tokenizer.json", ("model", "added_tokens")
"""Tokenizer file, and its keys with the tokens, such as "/", which are texts and no paths."""
LARGEST_TEXT_BYTES = 2**26


@dataclass(frozen=True)
class SentFile:
    """A file to send."""

    name: str
    """Path in the repository."""
    path: Path
    """Path of the file on disk."""
    content: bytes | None = None
    """Content to send instead of that of the file; None: the file is sent as it is."""

    @property
    def num_bytes(self) -> int:
        """Number of bytes that are sent."""
        return self.path.stat().st_size if self.content is None else len(self.content)


def sent_files(folder: Path, base: str | None) -> tuple[list[SentFile], list[str]]:
    """Return (the files to send, the names of files that are left out), both sorted by path.

    Left out are hidden files except in .eval_results, links that lead out of the folder, and files with an
    ending not in `SENT`.

    Args:
        folder: The adapter or model.
        base: Hub id to name as base in the model card and adapter_config.json; None: unchanged.
    """
    sent, left_out = [], []
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = path.relative_to(folder).as_posix()
        is_inside = path.resolve().is_relative_to(folder.resolve())
        is_hidden = any(part.startswith(".") and part != ".eval_results" for part in name.split("/"))
        if path.suffix in SENT and is_inside and not is_hidden:
            sent.append(SentFile(name, path, _with_base(path, base) if base else None))
        else:
            left_out.append(name)
    return sent, left_out


def _with_base(path: Path, base: str) -> bytes | None:
    """Return the model card or adapter_config.json with another base; None for other files."""
    if path.name == MODEL_CARD:
        return card.with_base(path.read_text(encoding="utf-8"), base).encode()
    if path.name == ADAPTER_CONFIG:
        values = parse_json(path.read_text(encoding="utf-8"))
        return (json.dumps({**values, BASE_KEY: base}, ensure_ascii=False, indent=2) + "\n").encode()
    return None


def problems(files: list[SentFile], *, is_export: bool) -> list[str]:
    """Return warnings about files to send: that name local paths or aren't JSON, and a missing model card.

    `is_export`: the files are of the export step, for which no model card is written.
    """
    lines = []
    if MODEL_CARD not in {file.name for file in files}:
        written = "recipe=leaderboard writes it, with the scores"
        copied = "copy that of the run's model: recipe=leaderboard writes none for an export"
        lines.append(f"{MODEL_CARD}: there is no model card ({copied if is_export else written})")
    for file in files:
        if file.path.suffix != ".json" or file.num_bytes > LARGEST_TEXT_BYTES:
            continue
        try:
            values = parse_json(_text(file))
        except ValueError as error:
            lines.append(f"{file.name}: not JSON, {first_line(error)}")
            continue
        if file.path.name == TOKENIZER and isinstance(values, dict):
            values = {key: value for key, value in values.items() if key not in VOCABULARY}
        base = values.get(BASE_KEY) if isinstance(values, dict) else None
        if file.name == ADAPTER_CONFIG and base and (not HUB_ID.fullmatch(base) or Path(base).exists()):
            lines.append(f"{file.name}: the base is the local path {base!r} (push.base=OWNER/NAME names it)")
        local = [path for path in _absolute_paths(values) if path != base]
        if local:
            lines.append(f"{file.name}: names {local[0]!r}, a path of this machine")
    return lines


def _absolute_paths(value: Any) -> Iterator[str]:
    """Yield the strings within a JSON value that are absolute paths of this machine."""
    if isinstance(value, str):
        if value.startswith("/") and "\0" not in value and len(value) < 4096 and Path(value).exists():
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _absolute_paths(item)


def with_secrets(files: list[SentFile]) -> list[str]:
    """Return the names of text files that contain a secret of the environment, such as a token.

    Files of more than LARGEST_TEXT_BYTES are not searched.
    """
    texts = [file for file in files if file.path.suffix not in (".safetensors", ".gguf", ".model")]
    small = (file for file in texts if file.num_bytes <= LARGEST_TEXT_BYTES)
    return [file.name for file in small if masked(text := _text(file)) != text]


def _text(file: SentFile) -> str:
    content = file.path.read_bytes() if file.content is None else file.content
    return content.decode("utf-8", "replace")
