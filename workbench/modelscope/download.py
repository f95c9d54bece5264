"""Downloads files of a repository on ModelScope, pinned to a commit."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError, first_line

PREFIX = "modelscope:"
"""Begins a path on ModelScope, as in modelscope:OWNER/NAME."""

NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:/(.+\.gguf))?")
COMMIT = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger("workbench")


def is_on_modelscope(path: str | Path | None) -> bool:
    """Return whether a path names a repository on ModelScope."""
    return str(path or "").startswith(PREFIX)


def download(
    path: str,
    revision: str | None,
    key: str,
    choose: Callable[[Sequence[str]], list[str]],
    kind: str = "model",
) -> tuple[Path, str | None]:
    """Download files of a repository into ModelScope's cache; return their local folder and the commit.

    If `path` names a GGUF file, the file's path is returned in place of the folder. The commit is None if the
    server names none; this is logged.

    Args:
        path: modelscope:OWNER/NAME, or modelscope:OWNER/NAME/FILE.gguf.
        revision: Branch, tag or commit; None: master.
        key: The config key of the path, for messages.
        choose: Takes the paths of all files in the repository, and returns those to download.
        kind: model or dataset.

    Raises:
        CheckpointError: The path has another form, the extra `modelscope` is not installed, there is no such
            repository, or no connection.
    """
    match = NAME.fullmatch(path.removeprefix(PREFIX))
    if match is None:
        raise CheckpointError(f"{key}: {path!r} is not {PREFIX}OWNER/NAME")
    try:
        from modelscope_hub import HubApi, HubError
        from requests import RequestException
    except ImportError as error:
        raise CheckpointError(
            f"{key}: {path!r} needs the client of ModelScope (pip install 'open-llama-workbench[modelscope]')"
        ) from error
    name = match[1]
    try:
        api = HubApi()
        listed = api.legacy.list_repo_files(name, kind, revision or "master")
        commit = newest_commit(listed)
        chosen = set(choose([str(file.get("Path")) for file in listed if file.get("Type") != "tree"]))
        files = [file for file in listed if file.get("Path") in chosen]
        folder = Path(api.download_repo(name, kind, revision=commit or revision, file_list=files))
    except (HubError, RequestException, OSError) as error:
        raise CheckpointError(
            f"{key}: downloading {path!r} from ModelScope failed: {first_line(error)}"
        ) from error
    if commit is None:
        log.warning("%s: ModelScope names no commit of %r, so a later run may get other files", key, path)
    return folder / match[2] if match[2] else folder, commit


def newest_commit(files: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the commit that changed a listed file last; None if the listing has no commits.

    Args:
        files: Listed files, each with the commit that changed it last (`Revision`) and that commit's time
            (`CommittedDate`).
    """
    dated = [(file.get("CommittedDate") or 0, str(file.get("Revision"))) for file in files]
    commits = [entry for entry in dated if COMMIT.fullmatch(entry[1])]
    return max(commits)[1] if commits else None
