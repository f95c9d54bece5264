"""Chooses the data files of a folder: those of one split, without notes such as README."""

import re
from collections.abc import Sequence
from pathlib import Path

from workbench.config.data import DataConfig
from workbench.config.names import key_of
from workbench.data.notices import say_once
from workbench.data.readers.read_rows import IN_FOLDERS
from workbench.errors import DataError

SPLIT_WORDS = {"train", "dev", "val", "valid", "validation", "eval", "test"}

DEFAULT_SPLIT = DataConfig().split

ABOUT = re.compile(
    r"(read_?me|licen[cs]e|copying|notice|sources?|changelog|changes|citation|authors|credits|requirements|"
    r"说明|许可)(?![^\W_])",
    re.IGNORECASE,
)
"""Matches names of text files that describe a data set instead of being data, such as README and LICENSE."""


def folder_files(folder: Path, split: str, source: str) -> list[Path]:
    """Return the data files below a folder, at any depth, sorted by path.

    If a file or folder name contains a word of SPLIT_WORDS (train.jsonl, test.jsonl), only files with the
    word `split` in their path below the folder are returned, so that no run trains on the folder's test rows.
    Hidden files are left out, and text files that describe the data, such as README.txt, unless there are no
    others. Files left out for their names are logged.

    Args:
        folder: The folder.
        split: Name of the split, as in file names.
        source: Name of the source in `data.sources`, for messages; empty: none.

    Raises:
        DataError: The folder has no data files, or none is named after `split` although names contain split
            words or the user set a split other than the default.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() in IN_FOLDERS and not path.name.startswith(".")
    )
    notes = [path for path in files if path.suffix.lower() == ".txt" and ABOUT.match(path.name)]
    if notes and len(notes) < len(files):
        note_names = listed([note.name for note in notes])
        say_once(f"{key_of('path', source)}: in {str(folder)!r}, {note_names} is not read as data")
        files = [path for path in files if path not in notes]
    if not files:
        key = key_of("path", source)
        raise DataError(f"{key}: no data files in {str(folder)!r} (known: {', '.join(IN_FOLDERS)})")
    names = {file: str(file.relative_to(folder)) for file in files}
    words = {file: set(re.split(r"[^a-z]+", name.lower())) for file, name in names.items()}
    if not any(words[file] & SPLIT_WORDS for file in files):
        if split != DEFAULT_SPLIT:
            has = listed(list(names.values()))
            raise DataError(
                f"{key_of('split', source)}: no file of {str(folder)!r} is named after {split!r} (has: {has})"
            )
        return files
    chosen = [file for file in files if split.lower() in words[file]]
    key, has = key_of("split", source), listed(list(names.values()))
    if not chosen:
        raise DataError(f"{key}: no file of {str(folder)!r} is named after {split!r} (has: {has})")
    left_out = listed([name for file, name in names.items() if file not in chosen])
    if left_out:
        say_once(f"{key}: in {str(folder)!r}, files not named after {split!r} are left out: {left_out}")
    return chosen


def listed(names: Sequence[str]) -> str:
    """Join the first eight names with commas for a message, with an ellipsis if there are more."""
    return ", ".join([*names[:8], *["..."][: len(names) > 8]])
