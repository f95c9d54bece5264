"""Splits the scores of a benchmark by the settings that gave models other prompts.

Scores with one hash of their prompts were asked alike, whatever their settings, and stay together. Other
scores stay together if they share a value of each setting that is responsible for other prompts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from workbench.leaderboard.items.score_settings import PROMPTS, Scored

WHOLE = "(nothing cut)"
"""Value of `max_length` that all scores fit of which neither an item nor an example was cut or left out."""
_OF_SHOTS = ("fewshot_as_turns", "fewshot_seed")


@dataclass(frozen=True, kw_only=True)
class PromptGroup:
    """Scores that share a column: each shares a value of each setting that changed prompts."""

    shared: tuple[tuple[str, tuple[str, ...]], ...]
    """((key, values), ...): each of the values fits all scores; keys that each value fits are left out."""
    scored: list[Scored]


@dataclass(frozen=True, kw_only=True)
class _Prompts:
    """The scores with one hash of their prompts."""

    scored: list[Scored]
    values: dict[str, frozenset[str]]
    """Key -> values that give these prompts; a key is missing if each value may (earlier versions recorded
    none)."""

    @cached_property
    def models(self) -> frozenset[str]:
        return frozenset(each.model for each in self.scored)

    @cached_property
    def has_long(self) -> bool:
        return any(map(_has_long, self.scored))


def prompt_groups(by_rule: Sequence[Sequence[Scored]]) -> list[list[PromptGroup]]:
    """Split the scores of each rule; which settings are responsible is decided from all rules' scores.

    Args:
        by_rule: The scores of one benchmark with equal shots, metric, ...: a sequence for each rule.

    Returns:
        The groups of each rule, by first appearance. With one group, where no setting is responsible,
        `shared` is empty.
    """
    known = _by_hash([each for group in by_rule for each in group])
    keys = _responsible(list(known.values()))
    return [_grouped(group, known, keys) for group in by_rule]


def _by_hash(scored: Sequence[Scored]) -> dict[str, _Prompts]:
    together: dict[str, list[Scored]] = {}
    for each in scored:
        together.setdefault(each.score.prompts, []).append(each)
    policies = frozenset(policy for each in scored if _has_long(each) for policy in _told([each], "too_long"))
    return {
        prompts: _Prompts(scored=same, values=_values(same, policies)) for prompts, same in together.items()
    }


def _values(same: Sequence[Scored], policies: frozenset[str]) -> dict[str, frozenset[str]]:
    """Return key -> values that give the prompts of some scores with one hash.

    Args:
        same: The scores.
        policies: Values of `too_long` that had an effect on any score of the benchmark.
    """
    values = {key: _told(same, key) for key in PROMPTS}
    if not any(each.score.num_fewshot for each in same):
        values = {key: told for key, told in values.items() if key not in _OF_SHOTS}
    if values["max_length"] and not any(_has_long(each) or each.score.num_shots_dropped for each in same):
        values["max_length"] |= {WHOLE}
    if not any(map(_has_long, same)):
        values["too_long"] = values["too_long"] & policies or policies
    return {key: told for key, told in values.items() if told}


def _told(scored: Iterable[Scored], key: str) -> frozenset[str]:
    settings = (each.settings for each in scored)
    return frozenset(values[key] for values in settings if key in values)


def _has_long(scored: Scored) -> bool:
    """Return whether an item was too long, so that it was cut or skipped."""
    return bool(scored.score.num_truncated + scored.score.num_skipped)


def _disjoint(first: _Prompts, second: _Prompts) -> list[str]:
    """Return the keys of which no value fits both, in the order of `PROMPTS`."""
    shared = (key for key in PROMPTS if key in first.values and key in second.values)
    return [key for key in shared if first.values[key].isdisjoint(second.values[key])]


def _responsible(known: Sequence[_Prompts]) -> list[str]:
    """Return the keys that explain why models were asked by several prompts, in the order of `PROMPTS`.

    Each pair of prompts of one model, or of which any models' long items fell to two policies, needs a key in
    which the two differ. Pairs that differ in fewest keys are explained first, those of equally many items
    before others; a pair that is explained needs no further key.
    """
    pairs: list[tuple[bool, int, list[str]]] = []
    for first, second in combinations(known, 2):
        is_one_model = not first.models.isdisjoint(second.models)
        if not is_one_model and not (first.has_long and second.has_long):
            continue
        differ = [key for key in _disjoint(first, second) if is_one_model or key == "too_long"]
        if differ:
            pairs.append((_num_asked(first) != _num_asked(second), len(differ), differ))
    responsible: set[str] = set()
    for _, _, differ in sorted(pairs):
        if responsible.isdisjoint(differ):
            responsible.update(differ)
    return [key for key in PROMPTS if key in responsible]


def _num_asked(prompts: _Prompts) -> int:
    score = prompts.scored[0].score
    return score.num_items + score.num_skipped


def _grouped(group: Sequence[Scored], known: dict[str, _Prompts], keys: Sequence[str]) -> list[PromptGroup]:
    """Group scores of one rule so that each group has a shared value of each key.

    The prompts of most models are placed first, those without recorded settings last; each joins the group of
    most models that it fits.
    """
    every = {key: frozenset[str]().union(*(p.values.get(key, ()) for p in known.values())) for key in keys}
    parts: list[tuple[dict[str, frozenset[str]], list[Scored]]] = []
    order = {id(each): number for number, each in enumerate(group)}
    for prompts in sorted(_by_hash(group).values(), key=_largest_first):
        values = known[prompts.scored[0].score.prompts].values
        fits = {key: values.get(key, every[key]) for key in keys}
        joined = [part for part in parts if all(part[0][key] & fits[key] for key in keys)]
        if joined:
            shared, scored = max(joined, key=lambda part: len({each.model for each in part[1]}))
            shared |= {key: shared[key] & fits[key] for key in keys}
            scored += prompts.scored
        else:
            parts.append((fits, list(prompts.scored)))
    for _, scored in parts:
        scored.sort(key=lambda each: order[id(each)])
    parts.sort(key=lambda part: order[id(part[1][0])])
    return [
        PromptGroup(
            shared=tuple((key, _in_order(shared[key])) for key in keys if shared[key] != every[key]),
            scored=scored,
        )
        for shared, scored in parts
    ]


def _largest_first(prompts: _Prompts) -> tuple[object, ...]:
    score = prompts.scored[0].score
    is_unknown = not any(each.settings for each in prompts.scored)
    return (is_unknown, -len(prompts.models), -score.num_items, score.prompts)


def _in_order(values: frozenset[str]) -> tuple[str, ...]:
    """Return values for a heading, in order; `WHOLE` only if it is alone."""
    return tuple(sorted(values - {WHOLE}, key=lambda value: (value != "null", value))) or (WHOLE,)
