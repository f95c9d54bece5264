"""Caches a model's answers to prompts in files, one JSON object per line.

A file's name is the fingerprint of everything besides the prompt that its answers depend on.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from workbench.distributed import rank_and_world_size
from workbench.errors import DataError
from workbench.evaluation.field_checks import (
    Check,
    is_bool,
    is_bool_or_none,
    is_count,
    is_likelihood,
    is_text,
    is_text_or_none,
    list_of,
)
from workbench.evaluation.records import Answer
from workbench.files import (
    LOCK,
    append,
    clear_the_way,
    end_last_line,
    fingerprint,
    open_to_append,
    parse_json,
    prepare_file,
)

log = logging.getLogger("workbench")

SUM = "sum"
"""Key under which a line of the file stores its checksum."""


class AnswerCache:
    """Answers of one model under one scoring rule: prompt hash -> answer.

    Answers are appended to the file, one per line, so a killed run continues where it stopped. Several
    processes may add to one file; each locks the folder's lock file while it writes. A line's checksum covers
    the line and the beginning of the file's name, so that a line of another model's file doesn't count. A
    damaged line is skipped with a warning, so that its prompt is asked again. An incomplete last line, as a
    kill leaves it, is skipped without a warning.
    """

    def __init__(
        self, folder: Path | None, model: str, rule: object, rank: int = 0, *, renew: bool = False
    ) -> None:
        """Read the cached answers.

        Args:
            folder: folder of the files; None caches answers in memory only.
            model: fingerprint of weights, adapter, quantization and dtype.
            rule: everything besides model and prompt that an answer depends on.
            rank: rank of this process, which writes its own file and reads the files of all ranks.
            renew: delete the cached answers; each process deletes its own file, and rank 0 also deletes the
                files of ranks that don't exist any more.

        Raises:
            DataError: There is a folder in place of a file of the cache.
        """
        self.key = fingerprint({"model": model, "rule": rule})
        self.path = folder / f"{self.key}.{rank}.jsonl" if folder is not None else None
        self.answers: dict[str, Answer] = {}
        paths = sorted(folder.glob(f"{self.key}.*.jsonl")) if folder is not None and folder.is_dir() else []
        for path in paths:
            if not renew:
                self.answers.update(_read(path, self.key))
            elif path == self.path or (rank == 0 and not _belongs_to_a_rank(path, rank_and_world_size()[1])):
                clear_the_way(path)

    def __contains__(self, prompt_hash: str) -> bool:
        """Return whether the answer to a prompt is cached."""
        return prompt_hash in self.answers

    def __getitem__(self, prompt_hash: str) -> Answer:
        """Return the answer to a prompt, which must be cached."""
        return self.answers[prompt_hash]

    def drop(self, prompt_hash: str) -> None:
        """Remove a cached answer that doesn't fit its prompt, so that the prompt is asked again; warn of it.

        The answer stays in its file, where the line of the new answer takes precedence.
        """
        log.warning(
            "%s: the cached answer to prompt %.16s doesn't fit the prompt; asking again",
            self.path,
            prompt_hash,
        )
        del self.answers[prompt_hash]

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        """Yield a writer that adds answers to memory and, with a folder, also to this process's file.

        Raises:
            DataError: The path of the file, or of the folder's lock file, is a link or a folder.
        """
        if self.path is None:
            yield Writer(self, None, nullcontext())
            return
        prepare_file(self.path.with_name(LOCK))
        lock = FileLock(self.path.with_name(LOCK))
        with lock:
            descriptor = open_to_append(self.path)
            end_last_line(descriptor)
        try:
            yield Writer(self, descriptor, lock)
        finally:
            os.close(descriptor)


class Writer:
    """Adds answers to an AnswerCache, in memory and in its file."""

    def __init__(self, cache: AnswerCache, descriptor: int | None, lock: AbstractContextManager[Any]) -> None:
        """Create a writer for a cache and its file.

        Args:
            cache: the cache in memory.
            descriptor: descriptor of the file, open for appending; None: answers stay in memory only.
            lock: held while a line is written.
        """
        self.cache = cache
        self.descriptor = descriptor
        self.lock = lock

    def add(self, prompt_hash: str, answer: Answer) -> None:
        """Add an answer in memory and, if there is a file, append it there before the method returns."""
        self.cache.answers[prompt_hash] = answer
        if self.descriptor is not None:
            line = _line(prompt_hash, answer, self.cache.key).encode()
            with self.lock:
                append(self.descriptor, line)


def _line(prompt_hash: str, answer: Answer, key: str) -> str:
    values = {"prompt": prompt_hash, **vars(answer)}
    values = {name: value for name, value in values.items() if name not in LATER or value is not None}
    return json.dumps({**values, SUM: _checksum(values, key)}, ensure_ascii=False) + "\n"


def _checksum(values: dict[str, Any], key: str) -> str:
    """Return a checksum of a line's values and of `key`, the beginning of the file's name, 16 hex digits."""
    return fingerprint([key, values])[:16]


def _belongs_to_a_rank(path: Path, world_size: int) -> bool:
    rank = path.name.split(".")[-2]
    return rank.isdecimal() and int(rank) < world_size


def _read(path: Path, key: str) -> dict[str, Answer]:
    """Read a file as prompt hash -> answer, and log a warning for its damaged lines."""
    if not path.is_file():
        raise DataError(f"{path}: not a file, but answers are cached there (move it away)")
    *lines, incomplete = path.read_text(encoding="utf-8", errors="replace").split("\n")
    answers: dict[str, Answer] = {}
    bad_lines: dict[str, list[int]] = {}
    for number, line in enumerate(lines, 1):
        parsed = _parsed(line, key)
        if isinstance(parsed, str):
            bad_lines.setdefault(parsed, []).append(number)
        else:
            answers[parsed[0]] = parsed[1]
    if incomplete and not isinstance(last := _parsed(incomplete, key), str):
        answers[last[0]] = last[1]
    for reason, numbers in bad_lines.items():
        more = f" and {len(numbers) - 1} further lines" if len(numbers) > 1 else ""
        log.warning("%s:%d%s: %s; asking again", path, numbers[0], more, reason)
    return answers


def _parsed(line: str, key: str) -> tuple[str, Answer] | str:
    """Return prompt hash and answer of a line, or the reason why the line is skipped."""
    try:
        values = parse_json(line)
    except ValueError:
        return "the line is damaged"
    if not isinstance(values, dict):
        return "the line is damaged"
    checksum = values.pop(SUM, None)
    is_whole = values.keys() | LATER == TYPES.keys()
    if checksum is None and is_whole:
        return "the line has no checksum, as in earlier versions"
    if checksum != _checksum(values, key) or not is_whole:
        return "the line is damaged"
    if not all(is_valid(values.get(name)) for name, is_valid in TYPES.items()):
        return "the line is not an answer"
    prompt = values.pop("prompt")
    fields_of_answer: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return prompt, Answer(**fields_of_answer)


TYPES: dict[str, Check] = {
    "prompt": is_text,
    "loglikelihoods": list_of(is_likelihood),
    "num_tokens": list_of(is_count),
    "greedy": list_of(is_bool),
    "unconditional": list_of(is_likelihood),
    "generation": is_text_or_none,
    "extracted": is_text_or_none,
    "finish_reason": is_text_or_none,
    "thought_cut": is_bool_or_none,
}
"""Key of a line -> check of its value."""

LATER = {"finish_reason", "thought_cut"}
"""Keys that earlier versions didn't write; null is not written, so that other lines stay as they were."""

assert TYPES.keys() == {"prompt", *(field.name for field in fields(Answer))}
