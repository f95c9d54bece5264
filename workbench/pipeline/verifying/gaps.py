"""Measures how far an endpoint's answers are from recorded ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.evaluation.records import Prediction


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """Differences between two models' answers to the same items."""

    num_items: int
    """Number of all items, also of those with other prompts."""
    num_other_prompts: int
    """Number of items with other prompts, which are left out of all numbers below."""
    num_likelihoods: int
    """Number of compared log-likelihoods."""
    largest: float
    """Largest difference of a log-likelihood, in nats."""
    mean: float
    """Mean absolute difference of a log-likelihood, in nats."""
    signed: float
    """Mean of new minus recorded log-likelihood, in nats."""
    num_other_answers: int
    """Number of items whose prediction differs."""
    num_texts: int
    """Number of compared generated texts."""
    num_other_texts: int
    """Number of generated texts that differ."""

    def is_within(self, tolerance: float) -> bool:
        """Return whether log-likelihoods differ by at most `tolerance` nats, and no text or prompt at all."""
        return self.largest <= tolerance and not self.num_other_texts and not self.num_other_prompts

    @property
    def summary(self) -> str:
        """The differences in one line: mean and largest in nats, and how many texts and answers are equal."""
        parts = []
        if self.num_likelihoods:
            parts.append(
                f"{self.num_likelihoods:,} log-likelihoods differ by {self.mean:.2g} nats in the mean and "
                f"{self.largest:.2g} at most"
            )
        if self.num_texts:
            parts.append(f"{self.num_texts - self.num_other_texts:,} of {self.num_texts:,} texts are equal")
        parts.append(f"{self.num_items - self.num_other_answers:,} of {self.num_items:,} answers are equal")
        return ", ".join(parts)


def gaps_between(
    recorded: Mapping[str, Sequence[Prediction]], again: Mapping[str, Sequence[Prediction]]
) -> Gaps:
    """Compare two models' answers, by benchmark; benchmarks that `again` lacks are left out.

    Both must have a benchmark's items in the same order. Without likelihoods, their differences are 0.
    """
    pairs = [
        pair for name in recorded if name in again for pair in zip(recorded[name], again[name], strict=True)
    ]
    same = [(before, now) for before, now in pairs if before.prompt_hash == now.prompt_hash]
    differences = [
        new - old
        for before, now in same
        for old, new in zip(before.loglikelihoods, now.loglikelihoods, strict=True)
    ]
    texts = [(before.generation, now.generation) for before, now in same if before.generation is not None]
    count = max(len(differences), 1)
    return Gaps(
        num_items=len(pairs),
        num_other_prompts=len(pairs) - len(same),
        num_likelihoods=len(differences),
        largest=max(map(abs, differences), default=0.0),
        mean=sum(map(abs, differences)) / count,
        signed=sum(differences) / count,
        num_other_answers=sum(before.prediction != now.prediction for before, now in same),
        num_texts=len(texts),
        num_other_texts=sum(before != now for before, now in texts),
    )
