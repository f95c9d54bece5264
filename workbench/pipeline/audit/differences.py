"""Compares recorded answers with new answers to the same items."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workbench.evaluation.records import Prediction

ROUNDING = 1e-9
"""Allowed difference of a score that doesn't depend on log-likelihoods."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An item whose recorded answer differs from the new one."""

    benchmark: str
    id: str
    what: str
    """What differs: `item` if the benchmark doesn't have the item, else the first of prompt, choices, target,
    subset, cluster, log-likelihoods, text, answer and score."""
    recorded: str
    """Recorded value of what differs, as text for messages."""
    again: str
    """New value of what differs, as text for messages."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Comparison of the recorded answers to a benchmark with the new ones."""

    differences: list[Difference]
    largest: float
    """Largest difference of a log-likelihood among items with equal prompts, in nats."""


def compare_answers(
    benchmark: str, recorded: Sequence[Prediction], again: Sequence[Prediction], tolerance: float
) -> Agreement:
    """Compare the answers to the same items in the same order; return which differ, and by how many nats.

    Args:
        benchmark: Name of the benchmark.
        recorded: Answers in the run's files.
        again: Answers given now.
        tolerance: Largest allowed difference of a log-likelihood, in nats.
    """
    differences = []
    largest = 0.0
    for before, now in zip(recorded, again, strict=True):
        gap = likelihood_gap(before, now)
        if before.prompt_hash == now.prompt_hash and gap is not None:
            largest = max(largest, gap)
        what = next(different_parts(before, now, gap, tolerance), None)
        if what is not None:
            name, old, new = what
            texts = {"recorded": f"{old!r:.200}", "again": f"{new!r:.200}"}
            differences.append(Difference(benchmark=benchmark, id=before.id, what=name, **texts))
    return Agreement(differences=differences, largest=largest)


def likelihood_gap(before: Prediction, now: Prediction) -> float | None:
    """Return the largest difference between log-likelihoods of the same choice in two answers, in nats.

    None if one answer has more log-likelihoods than the other.
    """
    if len(before.loglikelihoods) != len(now.loglikelihoods):
        return None
    pairs = zip(before.loglikelihoods, now.loglikelihoods, strict=True)
    return max((abs(old - new) for old, new in pairs if old != new), default=0.0)


def different_parts(
    before: Prediction, now: Prediction, gap: float | None, tolerance: float
) -> Iterator[tuple[str, object, object]]:
    """Yield (name, recorded value, new value) of each part that differs, causes before effects."""
    if before.prompt_hash != now.prompt_hash:
        yield "prompt", before.context[-100:], now.context[-100:]
    if before.choices != now.choices:
        yield "choices", before.choices, now.choices
    if before.target != now.target:
        yield "target", before.target, now.target
    for name in ("subset", "cluster"):  # what the score's average, its error and its tests depend on
        if getattr(before, name) != getattr(now, name):
            yield name, getattr(before, name), getattr(now, name)
    if gap is None or not gap <= tolerance:
        yield "log-likelihoods", before.loglikelihoods, now.loglikelihoods
    if before.generation != now.generation:
        yield "text", before.generation, now.generation
    if before.prediction != now.prediction:
        yield "answer", before.prediction, now.prediction
    if not equal_scores(before, now, tolerance):
        yield "score", before.scores, now.scores


def equal_scores(before: Prediction, now: Prediction, tolerance: float) -> bool:
    """Return whether two answers have equal scores.

    Scores of an answer with log-likelihoods may differ by `tolerance`, unless the new score is 0 or 1.
    """
    if before.scores.keys() != now.scores.keys():
        return False
    pairs = [(before.scores[name], score) for name, score in now.scores.items()]
    allowed = tolerance if now.loglikelihoods else ROUNDING
    return all(abs(old - new) <= (ROUNDING if new in (0.0, 1.0) else allowed) for old, new in pairs)
