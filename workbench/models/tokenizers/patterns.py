"""Regular expressions of a tokenizer.json, tried on texts before any row is split by them.

The tokenizers library matches them without a limit of time: one of them can take minutes on a line.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError
from workbench.models.checkpoints.state_dict import read_json_object

STAGES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
"""Parts of a tokenizer.json that take regular expressions."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KNOWN = {
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"\p{N}{1,3}",
    r"\s+",
    r"\d",
    " {2,}",
    " ",
}
"""Patterns of Llama 3, Qwen2, GPT-2, BLOOM, DeepSeek and SentencePiece, which need no trial."""

MAX_SECONDS = 20.0
"""For all patterns and texts together; a sound pattern takes a hundredth of a second."""

PROSE = "The 3 quick brown foxes' dens (in 1998) weren't 12.5 km away:\n\tx = f(y_1)  # 模型很好。Ölçü, año! "
RUNS = ("a", "A", "x", "1", " ", "\n", "!", "_", "一", "。", "a ", "a1", "é")
END = "\0!?-=.,;:/#$%&<>()[]{}|~*+@^"
"""After each run: what a pattern asks for behind its repetitions, without which nothing is tried."""
LENGTHS = (30, 60, 2000)
"""Characters of a run: short ones cost exponentially many steps where a pattern nests its repetitions."""

TRIAL = """
import json, sys
from tokenizers import Regex, pre_tokenizers
patterns, texts = json.load(sys.stdin)
for pattern in patterns:
    try:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
    except Exception:
        split = None  # told with its reason when the tokenizer is read
    for text in texts if split else ():
        split.pre_tokenize_str(text)
    print(flush=True)
"""


def check_patterns(file: Path) -> None:
    """Refuse a tokenizer.json whose regular expressions take too long.

    Raises:
        CheckpointError: with the pattern.
    """
    if b'"Regex"' not in file.read_bytes():
        return
    description = read_json_object(file)
    found = {pattern for stage in STAGES for pattern in _patterns(description.get(stage))}
    if slow := slow_pattern(sorted(found - KNOWN)):
        raise CheckpointError(f"{file}: the regular expression {slow!r:.200} takes too long to split a text")


def _patterns(value: Any) -> Iterator[str]:
    """Every regular expression within a part of a tokenizer.json."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("Regex"), str):
                yield value["Regex"]
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def slow_pattern(patterns: list[str]) -> str | None:
    """The first pattern that the tokenizers library doesn't split all texts by in time; None: all are fast.

    The library can't be stopped, so a process of its own tries them.
    """
    if not patterns:
        return None
    given = json.dumps([patterns, trial_texts(patterns)])
    command = [sys.executable, "-I", "-c", TRIAL]
    try:
        done = subprocess.run(command, input=given, text=True, capture_output=True, timeout=MAX_SECONDS)
        printed, ended = done.stdout.count("\n"), done.returncode == 0
    except subprocess.TimeoutExpired as error:
        printed, ended = (error.stdout or b"").count(b"\n"), False
    return None if ended else patterns[min(printed, len(patterns) - 1)]


def trial_texts(patterns: list[str]) -> list[str]:
    """Prose, and runs of a few characters and of the patterns' own, each with an end that differs."""
    letters = sorted({character for pattern in patterns for character in pattern if character.isalnum()})
    runs = dict.fromkeys([*RUNS, *letters[:40]])
    return [PROSE, PROSE * 20, *(run * (length // len(run)) + END for length in LENGTHS for run in runs)]
