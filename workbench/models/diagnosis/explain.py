"""Turns the fits of a merged model's tensors into findings: what is wrong with the weights, and why."""

import math
from collections.abc import Callable, Iterator, Sequence

from workbench.models.checkpoints.model_folder import HEAD, is_embedding, is_head
from workbench.models.diagnosis.adapter_layers import AdapterLayers
from workbench.models.diagnosis.evidence import Evidence
from workbench.models.diagnosis.findings import Finding, counted
from workbench.models.diagnosis.least_squares import Fit, Kind
from workbench.models.merging.effect import REFUSED_KEPT

Rule = Callable[[Evidence], Iterator[Finding]]
"""Function that yields the findings of one kind, or none."""


def explain(evidence: Evidence) -> list[Finding]:
    """Return all findings about the weights of a merged model, rule by rule; empty if nothing is noticed."""
    rules = FOREIGN_RULES if evidence.is_foreign else RULES
    if evidence.adapter is None:
        rules = RULES_WITHOUT_ADAPTER
    return [finding for rule in rules for finding in rule(evidence)]


def _names(fits: Sequence[Fit]) -> list[str]:
    return [fit.name for fit in fits]


def damaged(evidence: Evidence) -> Iterator[Finding]:
    """Yield findings for NaN or infinite values, and for missing weights."""
    if fits := evidence.of(Kind.not_finite):
        yield Finding(("not_finite",), counted(_names(fits)), _names(fits))
    missing = evidence.of(Kind.missing)
    if heads := [fit for fit in missing if is_head(fit.name)]:
        yield Finding(("lost_head",), f"{heads[0].name} is missing", _names(heads))
    if others := [fit for fit in missing if not is_head(fit.name)]:
        yield Finding(("missing_weights",), f"{counted(_names(others))} missing", _names(others))


def misshapen(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding for each tensor whose shape isn't the base's.

    An embedding or head with more rows gives a note on padding, unless the adapter changes it.
    """
    for fit in evidence.of(Kind.misshapen):
        is_vocabulary = is_head(fit.name) or is_embedding(fit.name)
        actual, expected = fit.shapes
        seen = f"{fit.name} is {list(actual)} instead of {list(expected)}"
        if not is_vocabulary:
            yield Finding(("wrong_base",), seen, [fit.name])
        elif fit.is_adapted or actual[0] < expected[0]:
            yield Finding(("embedding_rows",), seen, [fit.name])
        else:
            yield Finding(("padded_rows",), seen, [fit.name])


def foreign(evidence: Evidence) -> Iterator[Finding]:
    """Yield the one finding about a model that differs as a whole: another base or adapter, or more training.

    Some tensor in a layer must be unexplained, as it is if `evidence.is_foreign`.
    """
    fits = evidence.of(Kind.unexplained, among=evidence.body)
    matrices = [fit for fit in fits if fit.rank is not None]
    size = sorted(fit.size for fit in fits)[len(fits) // 2]
    if len(matrices) == len(fits):
        rank = max(fit.rank or 0 for fit in matrices)
        seen = f"{counted(_names(fits), len(evidence.body))} differ from the base by up to rank {rank}"
        along = [fit.times for fit in matrices if fit.times is not None]
        if along and all(abs(times - 1) < 0.2 for times in along):
            seen += ", besides this adapter's update"
        yield Finding(("another_adapter",), seen, _names(fits))
        return
    seen = f"{counted(_names(fits), len(evidence.body))} differ from the base by {size:.1%}, at full rank"
    yield Finding(("wrong_base", "further_trained"), seen, _names(fits))


def strays(evidence: Evidence) -> Iterator[Finding]:
    """Yield findings for unexplained tensors in a model that is otherwise as expected."""
    plain = evidence.of(Kind.unexplained, among=evidence.plain)
    if heads := [fit for fit in plain if is_head(fit.name)]:
        yield Finding(("fresh_head",), f"{heads[0].name} is not the base's", _names(heads))
    if others := [fit for fit in plain if not is_head(fit.name)]:
        is_low = all(fit.rank is not None for fit in others)
        causes = ("extra_module",) if is_low else ("extra_module", "further_trained")
        seen = f"{counted(_names(others))} without an update differ from the base"
        yield Finding(causes, seen, _names(others))
    if updated := evidence.of(Kind.unexplained, among=evidence.updated):
        is_low = all(fit.rank is not None for fit in updated)
        causes = ("another_adapter",) if is_low else ("further_trained", "another_adapter")
        yield Finding(causes, f"{counted(_names(updated))} aren't base + update", _names(updated))


def replaced(evidence: Evidence) -> Iterator[Finding]:
    """Yield findings for heads and other whole modules that should be the adapter's but aren't."""
    strange = ("another_adapter", "further_trained")
    for kind, head_cause, causes, told in (
        (Kind.equal, "lost_head", ("module_left_out",), "the base's, not the adapter's"),
        (Kind.unexplained, "fresh_head", strange, "neither the adapter's nor the base's"),
    ):
        fits = evidence.of(kind, among=evidence.replaced)
        heads = [fit for fit in fits if is_head(fit.name)]
        others = [fit for fit in fits if not is_head(fit.name)]
        if heads:
            yield Finding((head_cause,), f"{heads[0].name} is {told}", _names(heads))
        if others:
            yield Finding(causes, f"{counted(_names(others))} {told}", _names(others))


def quantized(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if weights were quantized before or after the merge.

    Also if they weren't, though the adapter was trained on a quantized base.
    """
    again = evidence.of(Kind.requantized)
    before = evidence.of(Kind.dequantized)
    if again:
        fits = [*again, *before]
        seen = f"{counted(_names(fits))} have values of {again[0].method}"
        yield Finding(("requantized",), seen, _names(fits))
    elif before:
        method = before[0].method
        seen = f"{counted(_names(before))} are those of a base in {method}"
        kind = method.split()[0]
        cause = "as_trained" if kind == evidence.trained_on else f"{kind}_base"
        yield Finding((cause,), seen, _names(before))
    elif evidence.trained_on and evidence.of(Kind.merged, Kind.scaled, among=evidence.updated):
        fits = evidence.of(Kind.merged, Kind.scaled, among=evidence.updated)
        yield Finding(("whole_base",), f"{counted(_names(fits))} are those of the whole base", _names(fits))


def scales(evidence: Evidence) -> Iterator[Finding]:
    """Yield findings for updates that are missing, have another factor than 1, or were lost in rounding."""
    fits = [fit for fit in evidence.updated if fit.times is not None and fit.kind is not Kind.unexplained]
    if not fits:
        return
    left_out = evidence.of(Kind.equal, among=fits)
    if len(left_out) == len(fits):
        seen = f"{counted(_names(fits), len(fits))} equal to the base"
        yield Finding(("not_merged",), seen, _names(fits), 0.0)
    elif left_out:
        seen = f"{counted(_names(left_out), len(fits))} equal to the base"
        yield Finding(("module_left_out",), seen, _names(left_out), 0.0)
    yield from _rounded_away(fits)
    yield from _other_scales(evidence, [fit for fit in fits if fit.kind is Kind.scaled], len(fits))


def _rounded_away(fits: Sequence[Fit]) -> Iterator[Finding]:
    """Yield a finding if rounding has removed all or most of the update."""
    merged = [fit for fit in fits if fit.kind is Kind.merged]
    total = sum(fit.update**2 for fit in merged)
    projection = sum(fit.projection * fit.update**2 for fit in merged) / total if total else 1.0
    if merged and all(fit.is_below_rounding for fit in fits):
        seen = f"base + update is the base after rounding to {fits[0].rounded_to}"
        yield Finding(("rounded_away", "not_merged"), seen, _names(fits))
    elif projection < REFUSED_KEPT:
        seen = (
            f"rounding to {merged[0].rounded_to} keeps {projection:.0%} of the update in "
            f"{counted(_names(merged))}"
        )
        yield Finding(("rounded_away",), seen, _names(merged))


def _other_scales(evidence: Evidence, fits: Sequence[Fit], total: int) -> Iterator[Finding]:
    """Yield a finding per cause for updates with another factor than 1."""
    is_embedding_alone = total > 1 and [is_embedding(fit.name) for fit in fits] == [True]
    if evidence.is_tied and is_embedding_alone and math.isclose(fits[0].times or 0, 2, rel_tol=0.02):
        seen = f"x = 2.00 in {fits[0].name}"
        yield Finding(("tied_embedding", "merged_twice"), seen, _names(fits), 2.0)
        return
    by_causes: dict[tuple[str, ...], list[Fit]] = {}
    for fit in fits:
        by_causes.setdefault(_causes_of(fit, evidence.adapter), []).append(fit)
    for causes, group in by_causes.items():
        times = [fit.times or 0.0 for fit in group]
        low, high = min(times), max(times)
        shown = f"x = {low:.3g}" if high - low <= 0.03 * abs(high) else f"x = {low:.3g} to {high:.3g}"
        middle = sorted(times)[len(times) // 2]
        yield Finding(causes, f"{shown} in {counted(_names(group), total)}", _names(group), middle)


def _causes_of(fit: Fit, adapter: AdapterLayers | None) -> tuple[str, ...]:
    """Return the mistakes that explain the factor on a tensor's update, such as merged_twice."""
    times = fit.times or 0.0
    allowed = max(0.03 * abs(times), 5 * fit.uncertainty)
    rank = adapter.rank(fit.name) if adapter else None
    causes = []
    if fit.is_repeated:
        return ("merged_twice",)
    if abs(times - 2) <= allowed or abs(times - 3) <= allowed:
        causes.append("merged_twice")
    if rank and any(abs(times - factor) <= allowed for factor in (math.sqrt(rank), 1 / math.sqrt(rank))):
        causes.append("rslora")
    if times < 0:
        return ("subtracted",)
    return (*causes, "other_alpha")


def tied(evidence: Evidence) -> Iterator[Finding]:
    """Yield findings if a tied embedding has the head's update, or the head the embedding's.

    Embedding and head share one weight, so an update of one changes both.
    """
    for fit in evidence.of(Kind.tied):
        yield Finding(("tied_embedding",), f"{fit.name} has the update of {HEAD}", [fit.name])
    if not evidence.is_tied or evidence.adapter is None or HEAD in {fit.name for fit in evidence.fits}:
        return
    adapter = evidence.adapter
    if HEAD in adapter.tensors.modules or getattr(adapter.config, "ensure_weight_tying", False):
        return
    for fit in evidence.of(Kind.merged, among=evidence.updated):
        if is_embedding(fit.name):
            seen = f"{HEAD} shares {fit.name} with its update, and the adapter leaves the head as it is"
            yield Finding(("tied_embedding",), seen, [fit.name])


def about_adapter(evidence: Evidence) -> Iterator[Finding]:
    """Yield findings about the adapter's file: missing tensors, unknown modules, updates of zero."""
    adapter = evidence.adapter
    if adapter is None:
        return
    if adapter.missing:
        seen = f"{len(adapter.missing)} tensors of the adapter are missing, such as {adapter.missing[0]}"
        yield Finding(("truncated_adapter",), seen, adapter.missing)
    if adapter.tensors.unknown:
        unknown = adapter.tensors.unknown
        seen = f"the base has no module for {len(unknown)} tensors of the adapter, such as {unknown[0]}"
        yield Finding(("wrong_base",), seen, unknown)
    if evidence.zero:
        names, total = _names(evidence.zero), len(adapter.tensors.modules)
        yield Finding(("zero_update",), f"the update is zero in {counted(names, total)}", names)


def rounding(evidence: Evidence) -> Iterator[Finding]:
    """Yield a note on tensors that were rounded to a coarser dtype than that of their file."""
    fits = [fit for fit in evidence.of(Kind.merged) if fit.rounded_to not in ("", fit.dtype)]
    if fits:
        seen = f"{counted(_names(fits))} in {fits[0].dtype} have only {fits[0].rounded_to} values"
        yield Finding(("rounded_twice",), seen, _names(fits))


def difference(evidence: Evidence) -> Iterator[Finding]:
    """Without an adapter, yield the finding that all tensors equal the base, or how they differ from it.

    The tensors that differ are described by rank and relative size of the difference: those of low rank in
    one finding, the others in another.
    """
    fits = evidence.of(Kind.unexplained)
    if not fits and all(fit.kind is Kind.equal for fit in evidence.fits):
        names = _names(evidence.fits)
        yield Finding(("not_merged",), f"{counted(names, len(names))} equal to the base", names)
    for is_low in (True, False):
        group = [fit for fit in fits if (fit.rank is not None) is is_low]
        if not group:
            continue
        sizes = sorted(fit.size for fit in group)
        ranks = sorted(fit.rank or 0 for fit in group)
        rank = f"rank {ranks[0]} to {ranks[-1]}" if is_low else "full rank"
        seen = f"{counted(_names(group), len(evidence.fits))} differ from the base by {rank}, and by "
        seen += f"{sizes[0]:.2g} to {sizes[-1]:.2g} of its norm"
        yield Finding(("low_rank",) if is_low else ("full_rank",), seen, _names(group))


RULES: tuple[Rule, ...] = (
    *(damaged, misshapen, strays, replaced, quantized, scales, tied),
    *(about_adapter, rounding),
)
FOREIGN_RULES: tuple[Rule, ...] = (damaged, misshapen, foreign, about_adapter)
"""Rules for a model that differs from base + adapter as a whole, so that no single tensor gets a finding."""
RULES_WITHOUT_ADAPTER: tuple[Rule, ...] = (damaged, misshapen, quantized, difference)
