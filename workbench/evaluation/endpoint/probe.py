"""Finds out whether an endpoint's log-probabilities of a prompt can be trusted."""

import logging
from collections.abc import Sequence

from workbench.evaluation.endpoint.replies import UnsuitableError
from workbench.evaluation.endpoint.scorers import Scorer, TokenScores

log = logging.getLogger("workbench")

NUM_GENERATED = 2
TOLERANCE = 0.1
"""Nats by which a token's log-probability may differ between generation and reading. In 16 bits 0.05 were
measured; a server whose values are shifted by one token differed by 15."""
LEAST_SPREAD = 1.0
"""Nats by which the log-probabilities of the probe's tokens must differ from each other, so that shifted ones
are found."""


def trusted(scorers: Sequence[Scorer], prompts: Sequence[Sequence[int]], where: str) -> Scorer:
    """Return the first of several interfaces whose log-probabilities can be trusted; the log names it.

    Args:
        scorers: The interfaces that an endpoint may have.
        prompts: Token ids of texts.
        where: The endpoint, for messages.

    Raises:
        UnsuitableError: None of them passes `probe`; the message has each one's reason.
        EndpointError: The endpoint fails.
    """
    reasons: dict[str, list[str]] = {}
    for scorer in scorers:
        try:
            probe(scorer, prompts, where)
        except UnsuitableError as error:
            reasons.setdefault(str(error).removeprefix(f"{where}: "), []).append(scorer.name)
        else:
            log.info("%s has log-probabilities of prompts, by %s", where, scorer.name)
            return scorer
    raise UnsuitableError(
        f"{where}: can't be scored by likelihood, only on benchmarks of generated answers: "
        + "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    )


def probe(scorer: Scorer, prompts: Sequence[Sequence[int]], where: str) -> None:
    """Check that an endpoint returns the same log-probabilities for tokens that it generates and reads.

    Two tokens are generated after each prompt; then prompt and tokens are sent back to be read, from the
    generated tokens on, and from the beginning on.

    Args:
        scorer: The interface that is asked.
        prompts: Token ids of texts.
        where: The endpoint, for messages.

    Raises:
        UnsuitableError: They differ, tokens are missing, or no prompt gives two clear tokens.
    """
    num_compared = 0
    for prompt in prompts:
        generated = scorer.generate(prompt, NUM_GENERATED)
        if generated is None:
            continue  # it ended early, or the names of its tokens are ambiguous
        tokens = [*prompt, *generated.ids]
        _compare(generated, scorer.score(tokens, len(prompt)), where)
        _check_spread(scorer.score(tokens, 1), where)
        num_compared += 1
    if not num_compared:
        raise UnsuitableError(f"{where}: the probe of its log-probabilities found no two tokens to compare")


def _compare(generated: TokenScores, read: TokenScores, where: str) -> None:
    for value, other in zip(generated.values, read.values, strict=True):
        if abs(value - other) > TOLERANCE:
            raise UnsuitableError(
                f"{where}: is not consistent with itself: a token that it generates with log-probability "
                f"{value:.4f} has {other:.4f} when it is sent back"
            )


def _check_spread(read: TokenScores, where: str) -> None:
    if max(read.values) - min(read.values) < LEAST_SPREAD:
        raise UnsuitableError(
            f"{where}: all log-probabilities of the probe are about {read.values[0]:.2f} (not a model's)"
        )
