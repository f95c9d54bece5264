"""Answers that were already had, kept in a file whose name is made of everything that they depend on."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from workbench.evaluation.records import Answer
from workbench.run_dir import fingerprint


class AnswerCache:
    """Answers of one model under one scoring rule: prompt hash -> answer.

    The file is only ever added to, a line an answer, so a killed run continues where it was. A line that
    a kill cut short is passed over.
    """

    def __init__(self, folder: Path | None, model: str, rule: object, rank: int = 0) -> None:
        """Read what is known.

        Args:
            folder: where the files are; None keeps answers in memory only.
            model: fingerprint of weights, adapter, quantization and dtype.
            rule: everything besides model and prompt that an answer depends on.
            rank: number of this process; each writes a file of its own and reads all.
        """
        key = fingerprint({"model": model, "rule": rule})
        self.path = folder / f"{key}.{rank}.jsonl" if folder is not None else None
        self.answers: dict[str, Answer] = {}
        for path in sorted(folder.glob(f"{key}.*.jsonl")) if folder is not None and folder.is_dir() else ():
            self.answers.update(_read(path))

    def __contains__(self, prompt_hash: str) -> bool:
        """Whether the answer is known."""
        return prompt_hash in self.answers

    def __getitem__(self, prompt_hash: str) -> Answer:
        """The answer to a prompt."""
        return self.answers[prompt_hash]

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        """Hands out what adds answers, to memory and, where there is a folder, to the file."""
        if self.path is None:
            yield Writer(self, None)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            if file.tell() and not _ends_with_newline(self.path):
                file.write("\n")
            yield Writer(self, file)


class Writer:
    """Adds answers to a cache."""

    def __init__(self, cache: AnswerCache, file: IO[str] | None) -> None:
        """Take the cache, and the open file that it lives in."""
        self.cache = cache
        self.file = file

    def add(self, prompt_hash: str, answer: Answer) -> None:
        """Keep an answer; it is in the file when this returns."""
        self.cache.answers[prompt_hash] = answer
        if self.file is not None:
            self.file.write(json.dumps({"prompt": prompt_hash, **vars(answer)}, ensure_ascii=False) + "\n")
            self.file.flush()


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> dict[str, Answer]:
    names = {field.name for field in fields(Answer)}
    found: dict[str, Answer] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut short by a kill
        if isinstance(values, dict) and values.keys() == names | {"prompt"}:
            prompt = values.pop("prompt")
            settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            found[prompt] = Answer(**settings)
    return found
