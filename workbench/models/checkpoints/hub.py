"""Locates models: returns the local path for a hub id, a folder or a file, and downloads what is missing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatch
from pathlib import Path
from typing import cast

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from workbench.errors import CheckpointError, ConfigError, first_line
from workbench.files import local_path
from workbench.modelscope.download import PREFIX, download, is_on_modelscope
from workbench.trust import is_trusted

# The first is the HTTP library's error, a base of the Hub's: a server that can't be reached raises it.
HUB_ERRORS: tuple[type[Exception], ...] = (
    cast(type[Exception], HfHubHTTPError.__mro__[1]),
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.gguf)")
DESCRIPTIONS = ["*.json", "*.model", "*.tiktoken", "*.jinja", "*.txt"]
WEIGHTS = {
    "model.path": [["*.safetensors"], ["*.bin"]],  # the second only if there is none of the first
    "adapter.path": [["*.safetensors"]],
}
IGNORED_FILES = ["*/*", "consolidated*", "training_args.bin", "optimizer*"]  # large files that are not needed


COMMIT = re.compile(r"[0-9a-f]{40}")

_commits: ContextVar[dict[str, str] | None] = ContextVar("commits", default=None)
"""`OWNER/NAME@REVISION` -> its commit, so that all steps of a run use the same one."""


@contextmanager
def held_commits(known: Mapping[str, str]) -> Iterator[None]:
    """Within the context, download models at the commits in `known`, and record other downloads' commits.

    `known` maps `OWNER/NAME@REVISION` to a commit, and isn't changed. `hub_commits` returns both kinds.
    """
    token = _commits.set(dict(known))
    try:
        yield
    finally:
        _commits.reset(token)


def hub_commits() -> dict[str, str]:
    """Return `OWNER/NAME@REVISION` -> commit, of `held_commits` and of all downloads within it so far.

    A new dict; empty outside of `held_commits`.
    """
    return dict(_commits.get() or {})


def locate(path: str | None, revision: str | None = None) -> Path:
    """Return the local model folder or `.gguf` file for `model.path`; a hub id is downloaded once.

    The mirror of HF_ENDPOINT and the cache of HF_HOME are used.

    Args:
        path: Folder, `.gguf` file, hub id or `modelscope:OWNER/NAME`.
        revision: Branch, tag or commit of a hub id; None: its main branch.

    Raises:
        ConfigError: `path` is None or empty.
        CheckpointError: There is nothing at `path`, it isn't a model, or the download failed.
    """
    if not path:
        raise ConfigError("model.path: not given (a hub id, modelscope:OWNER/NAME, a folder or a .gguf file)")
    local = local_path(path)
    if local.is_file() and local.suffix != ".gguf":
        is_of_model = (local.parent / "config.json").is_file()
        way_out = f" (its folder is the model: {str(local.parent)!r})" if is_of_model else ""
        raise CheckpointError(f"model.path: {path!r} is neither a folder nor a .gguf file{way_out}")
    located = local if local.exists() else _download(path, revision, "model.path")
    if located.is_dir():
        _check_folder(located)
    return located


def locate_description(path: str | None, revision: str | None = None) -> Path:
    """Return the same as `locate`, but download a hub id without weights: only configuration and tokenizer.

    A `.gguf` file on a hub is downloaded entirely.

    Raises:
        ConfigError, CheckpointError: As in `locate`.
    """
    if path and not local_path(path).exists() and HUB_ID.fullmatch(path.removeprefix(PREFIX)):
        return _download(path, revision, "model.path", [[]])
    return locate(path, revision)


def locate_tokenizer(path: str, key: str = "model.tokenizer") -> Path:
    """Return the local tokenizer folder or file for `path`; a hub id is downloaded without weights.

    Raises:
        CheckpointError: There is nothing at `path`, or the download failed; the message names `key`, the
            config key of the path.
    """
    local = local_path(path)
    return local if local.exists() else _download(path, None, key)


def locate_adapter(path: str | Path) -> Path:
    """Return the local adapter folder for `path`; a hub id is downloaded once.

    It isn't checked that the folder has an adapter.

    Raises:
        CheckpointError: There is nothing at `path`, or the download failed.
    """
    local = local_path(path)
    return local if local.exists() else _download(str(path), None, "adapter.path")


def _check_folder(folder: Path) -> None:
    """Check that the folder is a model folder.

    Raises:
        CheckpointError: The folder isn't; the message says what it contains instead.
    """
    if (folder / "config.json").is_file() or (folder / "params.json").is_file():
        return
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"model.path: {str(folder)!r} is an adapter, not a model (see adapter.path)")
    ggufs = sorted(file.name for file in folder.glob("*.gguf"))
    way_out = f"name the file: {', '.join(ggufs[:3])}" if ggufs else "a folder with config.json and weights"
    raise CheckpointError(
        f"model.path: {str(folder)!r} is not a model folder, it has no config.json ({way_out})"
    )


def _download(path: str, revision: str | None, key: str, weights: Sequence[list[str]] | None = None) -> Path:
    """Download a hub id, or one `.gguf` file of it, and return the local path.

    Args:
        path: The hub id.
        revision: Branch, tag or commit.
        key: The config key of the path.
        weights: Patterns of weight files, one list for each file format; None: those in WEIGHTS.

    Raises:
        CheckpointError: `path` is not a hub id, the hub has no such model, or the hub can't be reached.
    """
    if is_on_modelscope(path):
        return _download_from_modelscope(path, revision, key, weights)
    file = HUB_FILE.fullmatch(path)
    if not file and not HUB_ID.fullmatch(path):
        raise CheckpointError(
            f"{key}: there is no file or folder {path!r}, and it is not a hub id (OWNER/NAME)"
        )
    weights = WEIGHTS.get(key, [[]]) if weights is None else weights
    commits, name = _commits.get(), f"{file[1] if file else path}@{revision or 'main'}"
    commit_or_revision = revision if commits is None else commits.get(name, revision)
    try:
        downloaded = (
            Path(hf_hub_download(file[1], file[2], revision=commit_or_revision))
            if file
            else _download_folder(path, commit_or_revision, weights)
        )
    except HUB_ERRORS as error:
        raise CheckpointError(
            f"{key}: there is no folder {path!r}, and downloading it failed: {first_line(error)}"
        ) from error
    commit = next((folder for folder in downloaded.parts if COMMIT.fullmatch(folder)), None)
    if commits is not None and commit is not None:
        commits[name] = commit
    return downloaded


def _download_from_modelscope(
    path: str, revision: str | None, key: str, weights: Sequence[list[str]] | None
) -> Path:
    """Download a model of ModelScope, or one `.gguf` file of it, as `_download` does from the Hub."""
    formats = WEIGHTS.get(key, [[]]) if weights is None else weights

    def chosen(files: Sequence[str]) -> list[str]:
        if path.endswith(".gguf"):
            return [file for file in files if path.endswith(f"/{file}")]
        files = [file for file in files if not any(fnmatch(file, pattern) for pattern in IGNORED_FILES)]
        by_format = [[file for file in files if any(fnmatch(file, p) for p in form)] for form in formats]
        described = [*DESCRIPTIONS, *(["*.py"] if is_trusted() else [])]
        descriptions = [file for file in files if any(fnmatch(file, p) for p in described)]
        return [*descriptions, *next(filter(None, by_format), [])]

    commits, name = _commits.get(), f"{path}@{revision or 'master'}"
    downloaded, commit = download(
        path, revision if commits is None else commits.get(name, revision), key, chosen
    )
    if commits is not None and commit is not None:
        commits[name] = commit
    return downloaded


def _download_folder(hub_id: str, revision: str | None, weights: Sequence[list[str]]) -> Path:
    """Download configuration, tokenizer and templates, and the weights in the first file format there is.

    Without subfolders, and Python files only if the user trusts code. Returns the local folder.
    """
    for patterns in weights:
        allowed = [*DESCRIPTIONS, *patterns, *(["*.py"] if is_trusted() else [])]
        name = snapshot_download(
            hub_id, revision=revision, allow_patterns=allowed, ignore_patterns=IGNORED_FILES
        )
        if any(file for pattern in patterns for file in Path(name).glob(pattern)):
            break
    return Path(name)
