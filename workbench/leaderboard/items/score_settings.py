"""Finds the settings that scores of one benchmark were made with, and those in which its columns differ."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workbench.config.benchmark import BenchmarkConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.config.history import completed
from workbench.evaluation.records import Score
from workbench.leaderboard.collect import Run
from workbench.run_record import RULES, SETTINGS
from workbench.shown import clean

PROMPTS = (
    *("chat_template", "template_arguments", "system", "fewshot_as_turns", "fewshot_seed", "max_length"),
    "too_long",
)
"""Keys of the evaluate section that change prompts, as a score's hash of its prompts shows."""
_ANSWERS = ("temperature", "top_p", "top_k", "repetition_penalty", "thinking_budget", "permutations")
"""Keys of the evaluate section that are in a score's rule; null: as the benchmark's own key says."""
_OF_BENCHMARK = ("output_type", "scoring", "program", "generation")
_LONGEST = 24
_CONTEXT = 4
"""Characters shown before the part in which two long values differ."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Scores of one model of one run on one benchmark: the main metric's, and those by other metrics."""

    run: Run
    name: str
    """Name of the model in its run: base, adapter, ..."""
    model: str
    """Key of the model's row."""
    score: Score
    further: dict[str, Score]
    """Other metric -> score."""

    @cached_property
    def settings(self) -> dict[str, str]:
        """Key -> value, as texts, of what the score was made with; {} if its run.json doesn't say.

        The key of a benchmark's or an evaluate section's setting is the last part of its dotted key.
        """
        entry = self.run.steps.get(f"evaluate/{self.name}/{self.score.benchmark}")
        told = entry.get(SETTINGS) if isinstance(entry, dict) else None
        if not isinstance(told, dict) or not isinstance(version := told.get("version"), int):
            return {}
        given, rules = (told.get(key) for key in ("evaluate", RULES))
        evaluate = completed(given if isinstance(given, dict) else {}, EvaluateConfig, "evaluate", version)
        values: dict[str, Any] = {key: evaluate[key] for key in (*PROMPTS, "permutations")}
        if isinstance(benchmark := told.get("benchmark"), dict):
            section = completed(benchmark, BenchmarkConfig, "benchmarks.*", version)
            values |= {key: section[key] for key in _OF_BENCHMARK if key in section}
            generation = values.pop("generation", None)
            values |= generation if isinstance(generation, dict) else {}
        values |= {key: evaluate[key] for key in _ANSWERS if evaluate[key] is not None}
        values |= rules if isinstance(rules, dict) else {}
        return {key: _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def differing(columns: Sequence[Sequence[Scored]], *, of_prompts: bool = False) -> list[str]:
    """Return the keys in which columns differ, that change no prompt; with `of_prompts` those of `PROMPTS`.

    A key counts if each column has one value of it, or none because earlier versions didn't record it.
    Columns of which no setting is recorded count in no key.
    """
    settings = [told for column in columns if (told := [one.settings for one in column if one.settings])]
    keys = []
    for key in dict.fromkeys(key for column in settings for values in column for key in values):
        values = [{told[key] for told in column if key in told} for column in settings]
        is_clear = all(len(each) <= 1 for each in values) and len(set(map(tuple, values))) > 1
        if is_clear and (key in PROMPTS) == of_prompts:
            keys.append(key)
    return keys


def values_of(column: Sequence[Scored], key: str) -> tuple[str, ...]:
    """Return the values of a key that a column's scores were made with; ("earlier",) if none has this key.

    Empty for scores of which no setting is recorded.
    """
    settings = [one.settings for one in column if one.settings]
    values = sorted({told[key] for told in settings if key in told})
    return tuple(values) or (("earlier",) if settings else ())


def shortened(values: Iterable[str]) -> dict[str, str]:
    """Return value -> its text for a heading, of at most `_LONGEST` characters.

    Of long values with one beginning, the part follows in which they differ.
    """
    known = set(values)
    beginnings = Counter(_cut(value, 0) for value in known)
    return {
        value: _cut(value, 0 if beginnings[_cut(value, 0)] == 1 else _first_difference(value, known))
        for value in known
    }


def _first_difference(value: str, known: Iterable[str]) -> int:
    """Return the place `_CONTEXT` characters before a text ceases to equal the one that it equals longest."""
    alike = max(len(os.path.commonprefix([value, other])) for other in known if other != value)
    return max(0, alike - _CONTEXT)


def _cut(value: str, start: int) -> str:
    text = ("…" if start else "") + value[start:]
    return (text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…") or "(none)"
