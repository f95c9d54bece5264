"""Gives imported items the ids and order of another run's items with the same prompts, to pair them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.evaluation.records import Prediction, Score
from workbench.leaderboard.imported_items import ImportedItems, reordered
from workbench.leaderboard.imports.scores import score_of

COMMON_SHARE = 0.5
"""Two runs asked the same benchmark if at least this share of the shorter list has equal prompts."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One model's items and scores in an earlier run; imported items get the ids and order of these items."""

    ids: list[str]
    subsets: list[str]
    prompts: list[str]
    """Hash of each item's prompt."""
    clusters: list[str]
    scores: list[Score]
    """The model's scores on the benchmark, the main metric's first."""


def aligned(
    items: ImportedItems, scores: Sequence[Score], reference: Reference
) -> tuple[ImportedItems, list[Score]] | None:
    """Return imported items with ids and order of the reference, and their scores with its settings.

    Settings are benchmark's name, language, protocol, number of shots and rule. Items are matched by the hash
    of their prompts; unmatched items keep their ids and come last. None: less than half of the shorter list
    is matched, or the imported scores lack the reference's main metric.
    """
    metrics = [score.metric for score in reference.scores]
    own = {score.metric: score for score in scores}
    if not metrics or metrics[0] not in own:
        return None
    if items.ids == reference.ids and items.prompts == reference.prompts and metrics == list(own):
        return items, [_score_as_there(items, own[name], reference) for name in metrics]
    for prompts in (items.prompts, items.plain_prompts):
        matched = _matched(items.ids, prompts, reference)
        if len(matched) >= COMMON_SHARE * min(len(items.ids), len(reference.ids)):
            found = _reordered(items, prompts, matched, reference)
            order = [name for name in metrics if name in own] + [name for name in own if name not in metrics]
            return found, [_score_as_there(found, own[name], reference) for name in order]
    return None


def _matched(ids: Sequence[str], prompts: Sequence[str], reference: Reference) -> dict[int, int]:
    """Match items with equal prompts, one to one: index of the imported item -> index of the reference's.

    Of several reference items with one prompt, that with the imported item's id is taken first.
    """
    free: dict[str, list[int]] = {}
    for index in range(len(reference.ids) - 1, -1, -1):
        free.setdefault(reference.prompts[index], []).append(index)
    matched = {}
    for index, prompt in enumerate(prompts):
        candidates = free.get(prompt)
        if candidates:
            same = [there for there in candidates if reference.ids[there] == ids[index]]
            matched[index] = same[0] if same else candidates[-1]
            candidates.remove(matched[index])
    return matched


def _reordered(
    items: ImportedItems, prompts: Sequence[str], matched: dict[int, int], reference: Reference
) -> ImportedItems:
    unmatched = [index for index in range(len(items.ids)) if index not in matched]
    order = [*sorted(matched, key=lambda index: matched[index]), *unmatched]
    there = [matched.get(index) for index in order]

    def named(own: Sequence[str], others: Sequence[str]) -> list[str]:
        return [
            own[index] if other is None else others[other] for index, other in zip(order, there, strict=True)
        ]

    ids, subsets = named(items.ids, reference.ids), named(items.subsets, reference.subsets)
    hashes = [prompts[index] for index in order]

    def read() -> list[Prediction]:
        predictions = items.read()
        return [
            replace(predictions[index], id=item, subset=subset, prompt_hash=prompt)
            for index, item, subset, prompt in zip(order, ids, subsets, hashes, strict=True)
        ]

    return replace(
        reordered(items, order),
        ids=ids,
        subsets=subsets,
        prompts=hashes,
        clusters=named(items.clusters, reference.clusters),
        read=read,
    )


def _score_as_there(items: ImportedItems, score: Score, reference: Reference) -> Score:
    """Compute a score anew from reordered items, with the benchmark, protocol and rule of the reference."""
    there = next((one for one in reference.scores if one.metric == score.metric), reference.scores[0])
    found = score_of(
        items,
        score.metric,
        score.value,
        there.average,
        model=score.model,
        benchmark=there.benchmark,
        language=there.language,
        num_fewshot=there.num_fewshot,
        protocol=there.protocol,
        rule=there.rule,
        num_total=there.num_total or score.num_total,
        higher_is_better=score.higher_is_better,
    )
    return replace(found, prompts=there.prompts) if items.ids == reference.ids else found
