"""Finds the settings that scores of one benchmark were made with, and those in which its columns differ."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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

    def settings(self) -> dict[str, str]:
        """Return key -> value, as texts, of what the score was made with; {} if its run.json doesn't say.

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


def too_long(scored: Scored) -> str:
    """Return what became of the items of a score that were too long (`skip`, ...); empty if none was."""
    score = scored.score
    if not score.num_truncated + score.num_skipped:
        return ""
    return scored.settings().get("too_long") or ("cut" if score.num_truncated else "skip")


def by_prompts(group: Sequence[Scored]) -> dict[tuple[tuple[str, str], ...], list[Scored]]:
    """Split scores with one rule by the settings that gave a model other prompts, in the order of `PROMPTS`.

    Scores of which no item was too long fit each value of `too_long`, and are with those of their own, else
    of the most frequent one. Where no setting has an effect, there is one part, whose key is empty.

    Returns:
        ((key, value), ...) -> scores.
    """
    settings = [scored.settings() for scored in group]
    keys = [key for key in PROMPTS[:-1] if _has_effect(key, group, settings)]
    parts: dict[tuple[tuple[str, str], ...], list[Scored]] = {}
    for scored, values in zip(group, settings, strict=True):
        parts.setdefault(tuple((key, values.get(key, "unknown")) for key in keys), []).append(scored)
    return {
        (*part, *((("too_long", policy),) if policy else ())): scored
        for part, all_scored in parts.items()
        for policy, scored in _by_policy(all_scored).items()
    }


def _by_policy(group: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Split scores by the value of `too_long`, if several had an effect; else all are at an empty key."""
    policies = Counter(filter(None, map(too_long, group)))
    if len(policies) < 2:
        return {"": list(group)}
    common = max(policies, key=lambda policy: (policies[policy], policy))
    parts: dict[str, list[Scored]] = {}
    for scored in group:
        own = scored.settings().get("too_long", "")
        parts.setdefault(too_long(scored) or (own if own in policies else common), []).append(scored)
    return parts


def _has_effect(key: str, group: Sequence[Scored], settings: Sequence[dict[str, str]]) -> bool:
    """Return whether a model has as many items with other prompts, where `key` has another value."""
    first: dict[tuple[str, int], tuple[str, str]] = {}
    for scored, values in zip(group, settings, strict=True):
        if key in values:
            score = scored.score
            asked = score.num_items + score.num_skipped
            value, prompts = first.setdefault((scored.model, asked), (values[key], score.prompts))
            if value != values[key] and prompts != score.prompts:
                return True
    return False


def differing(columns: Sequence[Sequence[Scored]]) -> list[str]:
    """Return, for each column's scores, the settings in which the columns differ, as `extract=letter, ...`.

    A setting counts if each column has one value of it, or none because earlier versions didn't record it
    ("earlier"), and it changes no prompt. Empty for columns that don't differ in such a setting.
    """
    settings = [[scored.settings() for scored in column] for column in columns]
    keys = dict.fromkeys(key for column in settings for values in column for key in values)
    told: list[list[str]] = [[] for _ in columns]
    for key in (key for key in keys if key not in PROMPTS):
        found = [{values[key] for values in column if key in values} for column in settings]
        if all(len(values) <= 1 for values in found) and len({tuple(values) for values in found}) > 1:
            for words, values in zip(told, found, strict=True):
                words.append(f"{key}={short(next(iter(values), 'earlier'))}")
    return [", ".join(words) for words in told]


def short(value: str) -> str:
    """Return a value for a heading, cut to `_LONGEST` characters."""
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"
