"""Downloads data sets of ModelScope, whose files are then read as those of a folder."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from workbench.data.notices import say_once
from workbench.data.readers.read_rows import IN_FOLDERS
from workbench.errors import CheckpointError, DataError
from workbench.files import local_path
from workbench.modelscope.download import download, is_on_modelscope


def place_of(path: str, subset: str | None, key: str) -> Path:
    """Return the local path of training data, which may not exist; download a data set of ModelScope.

    A data set is downloaded at most once in a process.

    Args:
        path: A local path, or modelscope:OWNER/NAME.
        subset: Folder of the repository that has the files; None: all its data files. Of ModelScope only.
        key: The config key of the path, for messages.

    Raises:
        DataError: The data set can't be downloaded, or has no data files.
    """
    return downloaded(path, subset, key) if is_on_modelscope(path) else local_path(path)


@cache
def downloaded(path: str, subset: str | None, key: str) -> Path:
    """Download the data files of a data set of ModelScope, and return the folder that they are in.

    Args:
        path: modelscope:OWNER/NAME.
        subset: Folder of the repository to download; None: all of it.
        key: The config key of the path, for messages.

    Raises:
        DataError: The data set can't be downloaded, or has no data files.
    """
    found: list[str] = []

    def chosen(files: Sequence[str]) -> list[str]:
        in_folder = (file for file in files if subset is None or PurePosixPath(file).is_relative_to(subset))
        found.extend(file for file in in_folder if PurePosixPath(file).suffix.lower() in IN_FOLDERS)
        return found

    try:
        folder, commit = download(path, None, key, chosen, kind="dataset")
    except CheckpointError as error:
        raise DataError(str(error)) from error
    if not found:
        where = f" in the folder {subset!r}" if subset else ""
        raise DataError(f"{key}: {path!r} has no data files{where} (known: {', '.join(IN_FOLDERS)})")
    say_once(f"{key}: {path} at commit {commit or 'unknown'}, {len(found):,} files")
    return folder / subset if subset else folder
