"""Finds the columns of a leaderboard: benchmarks asked and scored by one rule, and the scores in each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.evaluation.records import Score
from workbench.files import fingerprint
from workbench.leaderboard.board import Column
from workbench.leaderboard.collect import Run
from workbench.leaderboard.formatting import is_shown_as_share
from workbench.leaderboard.items.prompt_groups import prompt_groups
from workbench.leaderboard.items.score_settings import Scored as Scored
from workbench.leaderboard.items.score_settings import differing, shortened, values_of
from workbench.shown import clean, message

DIFFERENT = ("metric", "protocol", "num_fewshot", "average", "rule")
"""Settings in which columns of the same benchmark may differ, in the order of the column's heading."""

RULE_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class ScoredColumn:
    """A column with all its scores; a model has one for each run that scored it."""

    column: Column
    scored: list[Scored]
    prompts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """`shared` of its `PromptGroup`."""


def find_columns(runs: Sequence[Run], keys: Mapping[tuple[str, str], str]) -> list[ScoredColumn]:
    """Group all scores into columns; return the Chinese columns first, then the others by language.

    Within a language, benchmarks are in order of first appearance.

    Args:
        runs: All runs.
        keys: (run label, model of the run) -> key of its row.
    """
    by_rule: dict[tuple[object, ...], list[Scored]] = {}
    for scored in (one for run in runs for one in _scored(run, keys)):
        by_rule.setdefault(_settings(scored.score), []).append(scored)
    columns = _by_prompts(_unruled_joined(by_rule))
    labels = _labels(columns)
    columns = [
        replace(each, column=replace(each.column, label=label))
        for each, label in zip(columns, labels, strict=True)
    ]
    order = {name: number for number, name in enumerate(dict.fromkeys(c.column.benchmark for c in columns))}
    return sorted(columns, key=lambda each: _place(each.column, order))


def _by_prompts(by_rule: Mapping[tuple[object, ...], list[Scored]]) -> list[ScoredColumn]:
    """Split the scores of each rule by the settings that gave models other prompts."""
    alike: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
    for asked in by_rule:
        alike.setdefault(asked[:-1], []).append(asked)
    groups_of = {
        asked: groups
        for same in alike.values()
        for asked, groups in zip(same, prompt_groups([by_rule[asked] for asked in same]), strict=True)
    }
    return [
        ScoredColumn(
            column=_column((*asked, *group.shared), group.scored), scored=group.scored, prompts=group.shared
        )
        for asked in by_rule
        for group in groups_of[asked]
    ]


def by_model(scored: Iterable[Scored]) -> dict[str, list[Scored]]:
    """Return key of a model's row -> its scores in a column, one for each run that scored the model."""
    by_model: dict[str, list[Scored]] = {}
    for each in scored:
        by_model.setdefault(each.model, []).append(each)
    return by_model


def _place(column: Column, order: Mapping[str, int]) -> tuple[object, ...]:
    return (column.language != "zh", column.language, order[column.benchmark])


def _scored(run: Run, keys: Mapping[tuple[str, str], str]) -> list[Scored]:
    """Return one `Scored` per model and benchmark of a run; the first score listed is the main metric's."""
    by_pair: dict[tuple[str, str], list[Score]] = {}
    for score in run.scores:
        by_pair.setdefault((score.model, score.benchmark), []).append(score)
    return [
        Scored(
            run=run,
            name=model,
            model=keys[run.label, model],
            score=main,
            further={score.metric: score for score in further},
        )
        for (model, _), (main, *further) in by_pair.items()
    ]


def _settings(score: Score) -> tuple[object, ...]:
    """Return the settings that two scores in one column must share, as a tuple that ends with the rule."""
    settings = (score.language, score.protocol, score.num_fewshot, score.average, score.permutations)
    return (score.benchmark, score.metric, *settings, score.rule)


def _unruled_joined(
    by_rule: Mapping[tuple[object, ...], list[Scored]],
) -> dict[tuple[object, ...], list[Scored]]:
    """Move scores without a rule into the column with the same other settings, if there is only one.

    Results of earlier versions have no fingerprint of their rule.
    """
    rules: dict[tuple[object, ...], list[object]] = {}
    for *asked, rule in by_rule:
        rules.setdefault(tuple(asked), []).append(rule)
    joined: dict[tuple[object, ...], list[Scored]] = {}
    for (*asked, rule), scored in by_rule.items():
        known = [each for each in rules[tuple(asked)] if each]
        only = known[0] if not rule and len(known) == 1 else rule
        joined.setdefault((*asked, only), []).extend(scored)
    return joined


def _column(asked: tuple[object, ...], scored: Sequence[Scored]) -> Column:
    """Build a column; items, chance and prompts are those of the prompts that most models answered.

    Of prompts that equally many models answered, those with most items count.
    """
    by_prompts: dict[str, list[Score]] = {}
    for each in scored:
        by_prompts.setdefault(each.score.prompts, []).append(each.score)
    models = {prompts: _num_models(scored, prompts) for prompts in by_prompts}
    main = max(by_prompts, key=lambda prompts: (models[prompts], by_prompts[prompts][0].num_items, prompts))
    score = by_prompts[main][0]
    scores = [each.score for each in scored]
    totals = [each.num_total for each in scores if each.num_total is not None]
    return Column(
        key=fingerprint(asked)[:16],
        label=clean(score.benchmark),
        benchmark=score.benchmark,
        language=score.language,
        metric=score.metric,
        protocol=score.protocol,
        num_fewshot=score.num_fewshot,
        rule=next((each.rule for each in scores if each.rule), ""),
        prompts=main,
        num_items=score.num_items,
        num_total=max([*totals, *(each.num_items for each in scores)]),
        average=score.average,
        chance=score.chance,
        majority=score.majority,
        is_share=is_shown_as_share(score),
        lower_is_better=score.lower_is_better,
    )


def _num_models(scored: Sequence[Scored], prompts: str) -> int:
    return len({each.model for each in scored if each.score.prompts == prompts})


def _labels(columns: Sequence[ScoredColumn]) -> list[str]:
    """Return a unique heading per column: the benchmark, and the settings that tell its columns apart."""
    labels: dict[str, str] = {}
    for name in dict.fromkeys(each.column.benchmark for each in columns):
        same = [each for each in columns if each.column.benchmark == name]
        words = _words(same)
        labels |= {
            each.column.key: " · ".join([clean(name), *facts])
            for each, facts in zip(same, words, strict=True)
        }
    repeated = Counter(labels.values())
    shown = [(labels[each.column.key], each.column.key[:RULE_DIGITS]) for each in columns]
    return [f"{label} · {digits}" if repeated[label] > 1 else label for label, digits in shown]


def _words(same: Sequence[ScoredColumn]) -> list[list[str]]:
    """Return the settings that tell each of a benchmark's columns from the others, as words of a heading.

    Those of `DIFFERENT` come first. Among columns that are equal in these, settings that gave other prompts
    follow, then settings in which the rules differ, and digits of the rule where no setting tells columns
    apart or none is recorded.
    """
    telling = [fact for fact in DIFFERENT if len({getattr(each.column, fact) for each in same}) > 1]
    facts = [tuple(_shown(each.column, fact) for fact in telling if fact != "rule") for each in same]
    settings = [dict(each.prompts) for each in same]
    _add_differing(same, facts, settings)
    texts = {
        key: shortened(value for each in settings for value in each.get(key, ()))
        for key in dict.fromkeys(key for each in settings for key in each)
    }
    words = [
        [
            *known,
            *(f"{key}={_listed([texts[key][value] for value in values])}" for key, values in told.items()),
        ]
        for known, told in zip(facts, settings, strict=True)
    ]
    repeated = Counter(map(tuple, words))
    named = {known for known, told in zip(facts, settings, strict=True) if told}
    is_vague = [
        repeated[tuple(own)] > 1 or (not told and known in named)
        for own, known, told in zip(words, facts, settings, strict=True)
    ]
    return [
        [*own, _shown(each.column, "rule")] if vague and "rule" in telling else own
        for own, each, vague in zip(words, same, is_vague, strict=True)
    ]


def _add_differing(
    same: Sequence[ScoredColumn],
    facts: Sequence[tuple[str, ...]],
    settings: Sequence[dict[str, tuple[str, ...]]],
) -> None:
    """Add the settings in which the rules of columns with equal `facts` differ to all of their settings.

    Where columns still have equal settings, those of `PROMPTS` count too: a rule may depend on max_length.
    """
    for known in dict.fromkeys(facts):
        numbers = [number for number, own in enumerate(facts) if own == known]
        by_rule: dict[tuple[object, ...], list[Scored]] = {}
        for number in numbers:
            asked = _settings(same[number].scored[0].score)[:-1]
            by_rule.setdefault((*asked, same[number].column.rule), []).extend(same[number].scored)
        for of_prompts in (False, True):
            is_told = len({tuple(settings[number].items()) for number in numbers}) == len(numbers)
            for key in differing(list(by_rule.values()), of_prompts=of_prompts):
                for number in numbers:
                    values = values_of(same[number].scored, key)
                    if values and not (is_told and of_prompts):
                        settings[number].setdefault(key, values)


def _listed(values: Sequence[str]) -> str:
    return f"{values[0]} or …" if len(values) > 2 else " or ".join(values)


def _shown(column: Column, fact: str) -> str:
    value = getattr(column, fact)
    if fact == "num_fewshot":
        return f"{value}-shot"
    return f"rule {value[:RULE_DIGITS]}" if fact == "rule" else clean(value)


def apart(score: Score, column: Column) -> str:
    """Return why a score can't be compared in its column, as `other prompts`; empty if prompts are equal."""
    if score.prompts == column.prompts:
        return ""
    if score.num_items != column.num_items:
        total = max(column.num_total, column.num_items)
        return message("{count} of {total} items", count=score.num_items, total=total)
    return message("other prompts")
