"""Checks that a tokenizer.json's regular expressions split texts in reasonable time.

The tokenizers library has no time limit for matching: one expression can take minutes on a line.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError
from workbench.models.checkpoints.state_dict import read_json_object
from workbench.patterns.trial_process import run_trial

STAGES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
"""Sections of a tokenizer.json with regular expressions."""

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
"""Patterns of Llama 3, Qwen2, GPT-2, BLOOM, DeepSeek and SentencePiece, which needn't be tried."""

MAX_SECONDS = 20.0
"""Limit on processor time for all patterns and texts together; a good pattern takes 0.01 seconds."""

PROSE = "The 3 quick brown foxes' dens (in 1998) weren't 12.5 km away:\n\tx = f(y_1)  # 模型很好。Ölçü, año! "
RUNS = ("a", "A", "x", "1", " ", "\n", "!", "_", "一", "。", "a ", "a1", "é")
END = "\0!?-=.,;:/#$%&<>()[]{}|~*+@^"
"""Characters after each run, which patterns may require after a repetition."""
LENGTHS = (30, 60, 2000)
"""Lengths of a run; with nested repetitions, short runs already take exponentially many steps."""

TRIAL = """
import json, sys
from tokenizers import Regex, pre_tokenizers
patterns, texts = json.load(sys.stdin)
for pattern in patterns:
    try:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
    except Exception:
        split = None  # reported when the tokenizer is read
    for text in texts if split else ():
        split.pre_tokenize_str(text)
    print(flush=True)
"""


def check_patterns(file: Path) -> None:
    """Refuse the tokenizer.json at `file` if one of its regular expressions takes too long to split a text.

    Raises:
        CheckpointError: A pattern is slow; the message has its text.
    """
    if b'"Regex"' not in file.read_bytes():
        return
    description = read_json_object(file)
    patterns = {pattern for stage in STAGES for pattern in _patterns(description.get(stage))}
    if slow := slow_pattern(sorted(patterns - KNOWN)):
        raise CheckpointError(f"{file}: the regular expression {slow!r:.200} takes too long to split a text")


def _patterns(value: Any) -> Iterator[str]:
    """Yield every regular expression in a section of a tokenizer.json."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(value.get("Regex"), str):
                yield value["Regex"]
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def slow_pattern(patterns: list[str]) -> str | None:
    """Return the first pattern that takes too long to split the trial texts; None if all together are fast.

    The library can't be interrupted, so the trial runs in another process.
    """
    if not patterns:
        return None
    trial_input = json.dumps([patterns, trial_texts(patterns)])
    command = [sys.executable, "-I", "-c", TRIAL]
    output, finished = run_trial(command, trial_input, MAX_SECONDS)
    return None if finished else patterns[min(output.count("\n"), len(patterns) - 1)]


def trial_texts(patterns: list[str]) -> list[str]:
    """Return texts that take slow patterns long to split: prose, and runs of a character followed by others.

    The runs are of common characters and of letters in the patterns.
    """
    letters = sorted({character for pattern in patterns for character in pattern if character.isalnum()})
    runs = dict.fromkeys([*RUNS, *letters[:40]])
    return [PROSE, PROSE * 20, *(run * (length // len(run)) + END for length in LENGTHS for run in runs)]
