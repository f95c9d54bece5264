"""Finds patterns that take too long where a library matches them with `re`, which can't be interrupted."""

import json
import sys
from collections.abc import Sequence

from workbench.patterns.trial_process import run_trial

MAX_CHILD_SECONDS = 10.0
"""Limit on processor time for all patterns and texts of `slow_in_re`."""
MATCHING = """
import json, re, sys
patterns, texts = json.load(sys.stdin)
for pattern in patterns:
    for text in texts:
        re.match(pattern, text), re.fullmatch(pattern, text)
    print(flush=True)
"""


def slow_in_re(candidates: Sequence[str], texts: Sequence[str]) -> str | None:
    """Return the pattern that `re` is matching when `MAX_CHILD_SECONDS` are over; None: all end in time.

    A subprocess matches each pattern against each text, because `re` can't be interrupted. Patterns with
    fewer than two repetitions (`*`, `+`, `{`) count as fast.
    """
    risky = [pattern for pattern in candidates if sum(map(pattern.count, "*+{")) > 1]
    if not risky:
        return None
    command = [sys.executable, "-I", "-S", "-c", MATCHING]
    output, finished = run_trial(command, json.dumps([risky, list(texts)]), MAX_CHILD_SECONDS)
    return None if finished else risky[min(output.count("\n"), len(risky) - 1)]
