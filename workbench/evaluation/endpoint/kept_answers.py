"""Asks an endpoint for some kept answers again before a scoring goes on: its model may be another one now."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from workbench.errors import DataError
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.records import Answer

log = logging.getLogger("workbench")

SIXTEEN_BIT_NATS = 0.15
"""Allowed difference of a log-likelihood of a model in 16 bits. Measured with 135 million parameters: 0.12
between batches of one model in bfloat16."""
NUM_TEXTS = 3
"""Kept texts that are asked again: a short one is often that of another model, too, and the rounding of a
server's batches may change one."""
TELLING = 80
"""Characters of the kept texts that are preferred: another model hardly writes as many of the same, and in
longer texts the rounding of a batch may change a token."""

Unit = TypeVar("Unit")
Answers = Callable[[list[Unit]], Iterator[tuple[int, Answer]]]


def endpoint_check(
    model: object, answers: Answers[Unit], title: Callable[[Unit], str], *, is_drawn: bool = False
) -> Callable[[Sequence[tuple[Unit, Answer]]], None] | None:
    """Return `check_kept` with these arguments; None if the model's weights are on this machine.

    With `is_drawn`, the kept answers are sampled, and only those to other benchmarks are compared.
    """
    if not isinstance(model, EndpointModel):
        return None
    check = partial(check_kept, model, answers, title)
    return (lambda _: check(())) if is_drawn else check


def check_kept(
    endpoint: EndpointModel,
    answers: Answers[Unit],
    title: Callable[[Unit], str],
    kept: Sequence[tuple[Unit, Answer]],
) -> None:
    """Ask an endpoint a few kept items again, and compare its answers with those that are kept.

    Without kept items, answers to another benchmark are compared by `endpoint.check_others`, unless some
    answers were compared before or this process has begun with a benchmark without them.

    Most of the texts must be equal, and a warning is logged if one isn't; log-likelihoods may differ by
    `endpoint.tolerance`.

    Args:
        endpoint: The endpoint.
        answers: Yields index and answer of each unit (item, text or request).
        title: Returns the name of a unit for messages.
        kept: Units with their kept answers, none of them sampled.

    Raises:
        DataError: Half of the answers or more differ.
        EndpointError: The endpoint fails.
    """
    tolerance = SIXTEEN_BIT_NATS if endpoint.settings.tolerance is None else endpoint.settings.tolerance
    asked = telling(kept)
    check_others, endpoint.check_others = endpoint.check_others, None
    if not asked and check_others is not None:
        check_others()
    differing = []
    for unit, before in asked:
        [(_, now)] = answers([unit])
        if before.differs(now, lambda _: tolerance):
            differing.append(
                f"{title(unit)}: {endpoint.client.url.geturl()} answers otherwise than when the kept answers "
                f"were given, {_shown(now)} after {_shown(before)}"
            )
    if differing and 2 * len(differing) >= len(asked):
        raise DataError(
            f"{differing[0]} (another model or other settings there? another run_dir keeps their scores "
            "apart, force=true asks all items again)"
        )
    for line in differing:
        log.warning("%s; other kept texts are the same", line)


def telling(kept: Sequence[tuple[Unit, Answer]]) -> list[tuple[Unit, Answer]]:
    """Return the kept answers to compare: some texts, or the item with the fewest requests and tokens."""
    texts = [pair for pair in kept if pair[1].generation is not None]
    if texts:
        return sorted(texts, key=lambda pair: abs(len(pair[1].generation or "") - TELLING))[:NUM_TEXTS]
    scored = [pair for pair in kept if sum(pair[1].num_tokens)]
    return sorted(scored, key=lambda pair: (len(pair[1].loglikelihoods), sum(pair[1].num_tokens)))[:1]


def _shown(answer: Answer) -> str:
    """Return an answer's text or log-likelihoods for a message."""
    if answer.generation is not None:
        return f"{answer.generation[:60]!r}"
    return f"log-likelihoods {', '.join(f'{value:.4g}' for value in answer.loglikelihoods[:4])}"
