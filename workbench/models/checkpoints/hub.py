"""Where a model lies: a hub id, a folder or a file becomes a path on this machine."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from workbench.errors import CheckpointError, ConfigError, first_line
from workbench.files import local_path
from workbench.trust import is_trusted

HUB_ERRORS = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled)

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.gguf)")
DESCRIPTIONS = ["*.json", "*.model", "*.jinja", "*.txt"]
WEIGHTS = {
    "model.path": [["*.safetensors"], ["*.bin"]],  # the second only where there is none of the first
    "adapter.path": [["*.safetensors"]],
}
COPIES = ["*/*", "consolidated*", "training_args.bin", "optimizer*"]  # as large as the weights, of no use


COMMIT = re.compile(r"[0-9a-f]{40}")

_commits: ContextVar[dict[str, str] | None] = ContextVar("commits", default=None)
"""`OWNER/NAME@REVISION` -> the commit that is used for it, so that all steps of a run use the same one."""


@contextmanager
def held_commits(known: Mapping[str, str]) -> Iterator[None]:
    """Use these commits of the Hub within, and remember those of what is asked for besides."""
    token = _commits.set(dict(known))
    try:
        yield
    finally:
        _commits.reset(token)


def hub_commits() -> dict[str, str]:
    """`OWNER/NAME@REVISION` -> commit, of all that has been had from the Hub within `held_commits`."""
    return dict(_commits.get() or {})


def locate(path: str | None, revision: str | None = None) -> Path:
    """The folder with a config.json, or the `.gguf` file, that `path` names; a hub id is downloaded once.

    The mirror of HF_ENDPOINT and the cache of HF_HOME are honoured, and a download is not repeated.

    Raises:
        ConfigError: no path.
        CheckpointError: there is nothing, or something that is no model.
    """
    if not path:
        raise ConfigError("model.path: missing (a hub id, a folder or a .gguf file)")
    local = local_path(path)
    if local.is_file() and local.suffix != ".gguf":
        raise CheckpointError(f"model.path: {path!r} is neither a folder nor a .gguf file")
    found = local if local.exists() else _download(path, revision, "model.path")
    if found.is_dir():
        _check_folder(found)
    return found


def locate_tokenizer(path: str, key: str = "model.tokenizer") -> Path:
    """The folder or file of a tokenizer that `path` names; of a hub id all but the weights is downloaded.

    Raises:
        CheckpointError: there is nothing; `key` is named as the one that asked for it.
    """
    local = local_path(path)
    return local if local.exists() else _download(path, None, key)


def locate_adapter(path: str | Path) -> Path:
    """The folder of an adapter that `path` names; a hub id is downloaded once.

    Raises:
        CheckpointError: there is nothing.
    """
    local = local_path(path)
    return local if local.exists() else _download(str(path), None, "adapter.path")


def _check_folder(folder: Path) -> None:
    """Look whether the folder holds a model.

    Raises:
        CheckpointError: it doesn't; the message says what it holds instead.
    """
    if (folder / "config.json").is_file() or (folder / "params.json").is_file():
        return
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"model.path: {str(folder)!r} holds an adapter, no model (see adapter.path)")
    ggufs = sorted(file.name for file in folder.glob("*.gguf"))
    way_out = f"name the file: {', '.join(ggufs[:3])}" if ggufs else "a folder with config.json and weights"
    raise CheckpointError(f"model.path: {str(folder)!r} holds no model, there is no config.json ({way_out})")


def _download(path: str, revision: str | None, key: str) -> Path:
    """The local copy of a hub id, or of one `.gguf` file below it.

    Raises:
        CheckpointError: `path` can't be a hub id, or the hub has no such model, or can't be reached.
    """
    file = HUB_FILE.fullmatch(path)
    if not file and not HUB_ID.fullmatch(path):
        raise CheckpointError(f"{key}: no file or folder {path!r} (and no hub id, OWNER/NAME)")
    weights = WEIGHTS.get(key, [[]])
    commits, name = _commits.get(), f"{file[1] if file else path}@{revision or 'main'}"
    wanted = revision if commits is None else commits.get(name, revision)
    try:
        found = (
            Path(hf_hub_download(file[1], file[2], revision=wanted))
            if file
            else _download_folder(path, wanted, weights)
        )
    except HUB_ERRORS as error:
        raise CheckpointError(
            f"{key}: no folder {path!r}, and none from the hub: {first_line(error)}"
        ) from error
    commit = next((part for part in found.parts if COMMIT.fullmatch(part)), None)
    if commits is not None and commit is not None:
        commits[name] = commit
    return found


def _download_folder(hub_id: str, revision: str | None, weights: Sequence[list[str]]) -> Path:
    """The hub id's descriptions and the first kind of `weights` that it has."""
    for kind in weights:
        wanted = [*DESCRIPTIONS, *kind, *(["*.py"] if is_trusted() else [])]
        name = snapshot_download(hub_id, revision=revision, allow_patterns=wanted, ignore_patterns=COPIES)
        if any(file for pattern in kind for file in Path(name).glob(pattern)):
            break
    return Path(name)
