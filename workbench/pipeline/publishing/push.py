"""The push step: sends an adapter or model of a run to the Hugging Face Hub."""

import logging
import os
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from rich.cells import cell_len

from workbench.config import Config
from workbench.config.publishing.push import PushConfig, Pushed
from workbench.errors import CheckpointError, ConfigError, MissingStepError, first_line
from workbench.models.checkpoints.hub import HUB_ERRORS
from workbench.pipeline.publishing.sent_files import SentFile, problems, sent_files, with_secrets
from workbench.pipeline.run_models import merge_fingerprint
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, check_trained
from workbench.run_dir import RunDir
from workbench.shown import clean, remember_secret
from workbench.wrapping import padded

log = logging.getLogger("workbench")

ORDER = (Pushed.merged, Pushed.model, Pushed.combined, Pushed.adapter)
REFUSALS: tuple[type[Exception], ...] = (*HUB_ERRORS, OSError, ValueError)
"""Exceptions of huggingface_hub if the Hub refuses or can't be reached, or if there is no token."""
MADE_BY = {Pushed.adapter: "train", Pushed.combined: "combine", Pushed.model: "train"}
"""Kind of folder -> the step whose entry in run.json has the folder's fingerprint."""


def push(run: Run) -> None:
    """Log the files of an adapter or model that go to the Hub, and with `push.send=true` send them.

    Raises:
        MissingStepError: The run has no such folder.
        CheckpointError: Its files were changed since they were made, or contain a secret.
        ConfigError: `push.repo` is not given, or the Hub refuses or can't be reached.
    """
    settings = run.config.push
    repo = repository(run.config)
    folder = pushed_folder(run)
    remember_token()
    files, left_out = sent_files(folder, settings.base)
    if leaked := with_secrets(files):
        raise CheckpointError(f"{folder / leaked[0]}: contains a token of the environment (take it out)")
    show(files, left_out)
    for problem in problems(files, is_export=folder == run.run_dir.export):
        log.warning("push: %s", clean(problem))
    size = f"{len(files)} files, {sum(file.num_bytes for file in files) / 1e6:,.1f} MB"
    kind = "public" if settings.public else "private"
    if not settings.send:
        log.info("push: nothing was sent (push.send=true sends %s to %s, %s)", size, repo, kind)
        return
    log.info("push: sending %s", size)
    log.info("push: %s", send(files, repo, settings, f"{run.run_dir.name}: {folder.name}"))


def repository(config: Config) -> str:
    """Return `push.repo`, the name of the repository on the Hub.

    Raises:
        ConfigError: `push.repo` is not given.
    """
    if config.push.repo is None:
        raise ConfigError("push.repo: not given (push.repo=OWNER/NAME)")
    return config.push.repo


def pushed_folder(run: Run) -> Path:
    """Return the folder to send: of `push.folder`, or else the first of `ORDER` that exists.

    It is checked to be as its step wrote it, unless it is an export, of which there is no record.

    Raises:
        MissingStepError: The run doesn't have the folder; or the merged model, its report or its adapter was
            changed since the merge.
        CheckpointError: The folder was changed.
    """
    run_dir, folders = run.run_dir, folders_of(run.run_dir)
    present = [kind for kind in ORDER if folders[kind].is_dir()]
    kind = run.config.push.folder or next(iter(present), None)
    if kind is None or not folders[kind].is_dir():
        names = ", ".join(name.value for name, folder in folders.items() if folder.is_dir())
        wanted = f"no {kind.value}" if kind else "neither an adapter nor a model"
        raise MissingStepError(
            f"push: {str(run_dir.path)!r} has {wanted} (it has {names or 'no model: run recipe=sft first'})"
        )
    if kind in MADE_BY:
        check_trained(run_dir, folders[kind], MADE_BY[kind])
    elif kind is Pushed.merged and not merge_fingerprint(adapter_folder(run), run_dir):
        raise MissingStepError(
            f"push: {folders[kind]} is not proven: it, its report or its adapter was changed since the merge "
            "step (recipe=merge makes it again)"
        )
    return folders[kind]


def folders_of(run_dir: RunDir) -> dict[Pushed, Path]:
    """Return kind -> folder for all kinds of folders that can be sent, existing or not."""
    return {
        Pushed.merged: run_dir.merged,
        Pushed.model: run_dir.model,
        Pushed.combined: run_dir.combined,
        Pushed.adapter: run_dir.adapter,
        Pushed.export: run_dir.export,
    }


def remember_token() -> None:
    """Have the Hub's tokens of this environment masked in logs and error messages of this process."""
    for token in (get_token(), os.environ.get("HF_TOKEN")):
        if token:
            remember_secret(token)


def show(files: list[SentFile], left_out: list[str]) -> None:
    """Log a line for each file with its size, and the names of those that are left out."""
    longest = max((cell_len(clean(file.name)) for file in files), default=0)
    for file in files:
        log.info("push: %s  %13s bytes", padded(clean(file.name), longest), f"{file.num_bytes:,}")
    if left_out:
        log.info("push: left out: %s", clean(", ".join(left_out)))


def send(files: list[SentFile], repo: str, settings: PushConfig, message: str) -> str:
    """Send the files in one commit, and return the commit's URL.

    The repository, and the branch `push.revision`, are created if they don't exist.

    Args:
        files: The files.
        repo: Name of the repository.
        settings: The push section.
        message: Message of the commit.

    Raises:
        ConfigError: The repository is public though `push.public` is false, the token may not write to it,
            or the Hub can't be reached.
    """
    if constants.is_offline_mode():
        raise ConfigError("push.send: HF_HUB_OFFLINE is set (unset it to send)")
    api = HfApi(library_name="open-llama-workbench")
    try:
        full_name = api.create_repo(repo, private=not settings.public, exist_ok=True).repo_id
        if not settings.public and is_public(api, full_name):
            raise ConfigError(f"push.repo: {full_name} is public already (push.public=true sends to it)")
        additions = [
            CommitOperationAdd(file.name, str(file.path) if file.content is None else file.content)
            for file in files
        ]
        if settings.revision:
            api.create_branch(full_name, branch=settings.revision, exist_ok=True)
        commit = api.create_commit(full_name, additions, commit_message=message, revision=settings.revision)
        return str(commit.commit_url)
    except REFUSALS as error:
        raise ConfigError(f"push.repo: {repo}: the Hub says: {clean(first_line(error))}") from error


def is_public(api: HfApi, repo: str) -> bool:
    """Return whether everybody can read the repository; False also if it doesn't exist."""
    try:
        return api.model_info(repo).private is False
    except RepositoryNotFoundError:
        return False
