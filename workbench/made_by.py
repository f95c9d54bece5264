"""Describes the origin of a file that a run writes: command, time, and commit of this program."""

import re
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

_typed: list[str] = []
"""Program and words as the user typed them, before they are rewritten for Hydra."""

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def remember_command(argv: Sequence[str]) -> None:
    """Remember the command line as the user typed it, program first, for `made_by`."""
    _typed[:] = argv


def made_by() -> dict[str, str]:
    """Return the origin of a file written now: `command`, `date` (UTC) and `commit`.

    Without a git checkout around this program, `commit` is left out.
    """
    program, *arguments = _typed or sys.argv or [""]
    name = Path(program).name
    words = ["python", "-m", "workbench"] if name == "__main__.py" else [name]
    provenance = {
        "command": shlex.join([*words, *arguments]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    commit = checkout_commit(Path(__file__).parents[1])
    return {**provenance, "commit": commit} if commit else provenance


@cache
def checkout_commit(folder: Path) -> str:
    """Return the hash of the commit checked out in a folder; empty if the folder isn't a checkout's top."""
    git = folder / ".git"
    try:
        if git.is_file():  # of a worktree: "gitdir: PATH"
            git = folder / git.read_text("utf-8").partition(":")[2].strip()
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head if COMMIT.fullmatch(head) else ""
        return _commit_of(git, head.removeprefix("ref: "))
    except (OSError, UnicodeDecodeError):
        return ""


def _commit_of(git: Path, branch: str) -> str:
    """Return a branch's commit from the branch's file below .git, or from packed-refs; empty if unknown."""
    common = git
    if (git / "commondir").is_file():
        common = git / (git / "commondir").read_text("utf-8").strip()
    for folder in (git, common):
        if (folder / branch).is_file():
            commit = (folder / branch).read_text("utf-8").strip()
            return commit if COMMIT.fullmatch(commit) else ""
    for line in (common / "packed-refs").read_text("utf-8").splitlines():
        commit, _, name = line.partition(" ")
        if name == branch and COMMIT.fullmatch(commit):
            return commit
    return ""
