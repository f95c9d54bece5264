"""Compares mathematical answers by math_verify; run as a process of its own, which can be ended.

Each line of standard input is a JSON list: a generated text, the right answers in LaTeX, and whether the last
number of the text counts where it states no answer. Each line of standard output is `true` where the answer
that the text states equals one of them, else `false`; the first line says that the process is ready. Sympy
computes `9^{9^{9^9}}` for ever, and no signal interrupts it.
"""

import contextlib
import json
import logging
import os
import sys

MOST_BYTES = 4 << 30
"""Limit on the address space, where the system has such a limit."""


def compare_lines() -> None:
    """Answer each line of standard input; what libraries print goes to standard error."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)  # math_verify warns that its own time limit is off
    import math_verify  # noqa: F401  (takes a second)

    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_states(*json.loads(line))), file=replies, flush=True)


def _states(text: str, right_answers: list[str], takes_any_number: bool) -> bool:
    """Return whether the answer that a text states equals one of the right answers."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    numbers = ExprExtractionConfig(try_extract_without_anchor=takes_any_number)
    try:
        answer = parse(text, [LatexExtractionConfig(), numbers], parsing_timeout=None)
        return any(
            verify(parse(f"${right}$", parsing_timeout=None), answer, timeout_seconds=None)
            for right in right_answers
        )
    except (RecursionError, MemoryError):
        return False


if __name__ == "__main__":
    compare_lines()
