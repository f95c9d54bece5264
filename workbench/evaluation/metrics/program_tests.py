"""Scores generated code by running it with its tests in the box."""

import logging
import re
from collections import Counter
from collections.abc import Sequence

from workbench.distributed import all_gather_dict, rank_and_world_size
from workbench.evaluation.code_box.box import Verdict
from workbench.evaluation.code_box.sound_box import sound_box
from workbench.evaluation.extraction.cleaning import whole_text
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.records import Answer, Example
from workbench.progress import Progress

_FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import[ \t]+\w.*$", re.M)
log = logging.getLogger("workbench")
_verdicts: dict[str, Verdict] = {}
"""Program -> how it ended, of the benchmark that is scored."""


def code(answer: Answer, example: Example) -> str:
    """Return the code of an answer: what the benchmark's `extract` rule found in the generated text.

    White space at the start of a text indents its first line, so a text that the rule only trimmed is
    returned as generated.
    """
    extracted = answer.extracted or ""
    return whole_text(answer.generation or "", extracted) or extracted


def passes(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return 1.0 if the program with the code runs to its end, else 0.0.

    Raises:
        ConfigError: No box holds off the attacks, so programs can't be run safely.
    """
    program = _program(prediction, example)
    if program not in _verdicts:
        _verdicts[program] = sound_box().run(program)
    return float(_verdicts[program].passed)


def run_ahead(judged: Sequence[Judged]) -> None:
    """Run the programs of all items side by side, shared among the ranks, and log how they ended.

    Raises:
        ConfigError: No box holds off the attacks, so programs can't be run safely.
    """
    programs = [_program(item.prediction, item.example) for item in judged]
    distinct = list(dict.fromkeys(programs))
    rank, world_size = rank_and_world_size()
    own = distinct[rank::world_size]
    with Progress("programs", len(own), unit="programs", is_shown=rank == 0) as progress:
        verdicts = dict(zip(own, sound_box().run_all(own, progress.advance), strict=True))
    _verdicts.clear()
    _verdicts.update(all_gather_dict(verdicts))
    if rank == 0:
        failures = Counter(_verdicts[p].reason for p in programs if not _verdicts[p].passed)
        reasons = "".join(f", {reason} {count:,}" for reason, count in failures.most_common(8))
        num_passed = len(programs) - failures.total()
        log.info("pass@1: %d of %d programs ran to their end%s", num_passed, len(programs), reasons)


def _program(prediction: int | str | None, example: Example) -> str:
    """Return the program of an item; imports of the future in an answer precede the prompt."""
    before, after = example.program or ("", "")
    answer = "" if prediction is None else str(prediction)
    future = _FUTURE.findall(answer) if before.strip() else []
    rest = _FUTURE.sub("", answer) if future else answer
    return "".join([*(line + "\n" for line in future), before, rest, after])
