"""Answers that were already had, kept in a file whose name is made of everything that they depend on."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from workbench.distributed import rank_and_world_size
from workbench.errors import DataError
from workbench.evaluation.field_checks import (
    Check,
    is_count,
    is_likelihood,
    is_text,
    is_text_or_none,
    is_truth,
    list_of,
)
from workbench.evaluation.records import Answer
from workbench.files import append, clear_the_way, end_last_line, fingerprint, open_to_append, parse_json

log = logging.getLogger("workbench")

SUM = "sum"
"""Key of a line's checksum."""


class AnswerCache:
    """Answers of one model under one scoring rule: prompt hash -> answer.

    The file is only ever added to, a line an answer, so a killed run continues where it was. Each line has a
    checksum of itself and of the file that it belongs to; one that isn't as it was written is named in the
    log and passed over, so that its prompt is asked again. A last line that a kill cut short is passed over.
    """

    def __init__(
        self, folder: Path | None, model: str, rule: object, rank: int = 0, *, renew: bool = False
    ) -> None:
        """Read what is known.

        Args:
            folder: where the files are; None keeps answers in memory only.
            model: fingerprint of weights, adapter, quantization and dtype.
            rule: everything besides model and prompt that an answer depends on.
            rank: number of this process; each writes a file of its own and reads all.
            renew: forget what is known; each process forgets its own file, and rank 0 those of ranks that
                aren't there any more.
        """
        self.key = fingerprint({"model": model, "rule": rule})
        self.path = folder / f"{self.key}.{rank}.jsonl" if folder is not None else None
        self.answers: dict[str, Answer] = {}
        paths = sorted(folder.glob(f"{self.key}.*.jsonl")) if folder is not None and folder.is_dir() else []
        for path in paths:
            if not renew:
                self.answers.update(_read(path, self.key))
            elif path == self.path or (rank == 0 and not _is_of_a_rank(path, rank_and_world_size()[1])):
                clear_the_way(path)

    def __contains__(self, prompt_hash: str) -> bool:
        """Whether the answer is known."""
        return prompt_hash in self.answers

    def __getitem__(self, prompt_hash: str) -> Answer:
        """The answer to a prompt."""
        return self.answers[prompt_hash]

    def drop(self, prompt_hash: str) -> None:
        """Forget an answer that can't be one to its prompt, so that it is asked again."""
        log.warning("%s: the answer to prompt %.16s is none; asked again", self.path, prompt_hash)
        del self.answers[prompt_hash]

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        """Hands out what adds answers, to memory and, where there is a folder, to the file.

        Raises:
            DataError: a link or a folder lies where the file is to be.
        """
        if self.path is None:
            yield Writer(self, None)
            return
        descriptor = open_to_append(self.path)
        try:
            end_last_line(descriptor)
            yield Writer(self, descriptor)
        finally:
            os.close(descriptor)


class Writer:
    """Adds answers to a cache."""

    def __init__(self, cache: AnswerCache, descriptor: int | None) -> None:
        """Take the cache, and a descriptor of the file that it lives in."""
        self.cache = cache
        self.descriptor = descriptor

    def add(self, prompt_hash: str, answer: Answer) -> None:
        """Keep an answer; it is in the file when this returns."""
        self.cache.answers[prompt_hash] = answer
        if self.descriptor is not None:
            append(self.descriptor, _line(prompt_hash, answer, self.cache.key).encode())


def _line(prompt_hash: str, answer: Answer, key: str) -> str:
    values = {"prompt": prompt_hash, **vars(answer)}
    return json.dumps({**values, SUM: _sum(values, key)}, ensure_ascii=False) + "\n"


def _sum(values: dict[str, Any], key: str) -> str:
    """The checksum of a line's values, for the file that is named after `key`."""
    return fingerprint([key, values])[:16]


def _is_of_a_rank(path: Path, world: int) -> bool:
    number = path.name.split(".")[-2]
    return number.isdecimal() and int(number) < world


def _read(path: Path, key: str) -> dict[str, Answer]:
    """The answers of a file whose lines are as they were written; the others are named in the log."""
    if not path.is_file():
        raise DataError(f"{path}: not a file, where answers are kept (move it away)")
    *lines, cut = path.read_text(encoding="utf-8", errors="replace").split("\n")
    answers: dict[str, Answer] = {}
    bad: dict[str, list[int]] = {}
    for number, line in enumerate(lines, 1):
        kept = _kept(line, key)
        if isinstance(kept, str):
            bad.setdefault(kept, []).append(number)
        else:
            answers[kept[0]] = kept[1]
    if cut and not isinstance(last := _kept(cut, key), str):
        answers[last[0]] = last[1]
    for reason, numbers in bad.items():
        more = f" and {len(numbers) - 1} further lines" if len(numbers) > 1 else ""
        log.warning("%s:%d%s: %s; asked again", path, numbers[0], more, reason)
    return answers


def _kept(line: str, key: str) -> tuple[str, Answer] | str:
    """Prompt and answer of a line, or why it isn't taken."""
    try:
        values = parse_json(line)
    except ValueError:
        return "not as it was written"
    if not isinstance(values, dict):
        return "not as it was written"
    checksum = values.pop(SUM, None)
    if checksum is None and values.keys() == TYPES.keys():
        return "kept by an earlier version, without a checksum"
    if checksum != _sum(values, key) or values.keys() != TYPES.keys():
        return "not as it was written"
    if not all(is_valid(values[name]) for name, is_valid in TYPES.items()):
        return "not an answer"
    prompt = values.pop("prompt")
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return prompt, Answer(**settings)


TYPES: dict[str, Check] = {
    "prompt": is_text,
    "loglikelihoods": list_of(is_likelihood),
    "num_tokens": list_of(is_count),
    "greedy": list_of(is_truth),
    "unconditional": list_of(is_likelihood),
    "generation": is_text_or_none,
    "extracted": is_text_or_none,
}
"""Key of a line -> whether a value can stand there."""

assert TYPES.keys() == {"prompt", *(field.name for field in fields(Answer))}
