"""Finds out whether an endpoint's log-probabilities of a prompt can be trusted."""

from collections.abc import Callable, Sequence
from typing import Any

from workbench.errors import EndpointError
from workbench.evaluation.endpoint.replies import TokenLogprobs, logprobs_of, prompt_tokens

NUM_GENERATED = 2
TOLERANCE = 0.1
"""Nats by which a token's log-probability may differ between generation and echo. In 16 bits 0.05 were
measured; a server whose values are shifted by one token differed by 15."""
LEAST_SPREAD = 1.0
"""Nats by which the log-probabilities of the probe's tokens must differ from each other, so that shifted ones
are found."""


Post = Callable[..., dict[str, Any]]
"""Sends a completion request of token ids, with further fields as keywords, and returns the reply."""
ToIds = Callable[[Sequence[str]], list[int] | None]
"""Returns the ids of generated tokens from their names; None if a name fits several tokens or none."""


def probe(post: Post, prompts: Sequence[Sequence[int]], to_ids: ToIds, where: str) -> None:
    """Check that an endpoint returns the same log-probabilities for tokens that it generates and reads.

    Two tokens are generated after each prompt; then prompt and tokens are sent back with echo.

    Args:
        post: Sends a completion request.
        prompts: Token ids of texts.
        to_ids: Returns the ids of the generated tokens.
        where: The endpoint, for messages.

    Raises:
        EndpointError: They differ, tokens are missing, or no prompt gives two clear tokens.
    """
    num_compared = 0
    for prompt in prompts:
        reply = post(prompt, max_tokens=NUM_GENERATED, logprobs=1)
        generated = logprobs_of(reply, None, where)
        ids = to_ids(generated.names)
        if len(generated.names) != NUM_GENERATED or ids is None:
            continue  # it ended early, or the names of its tokens are ambiguous
        again = post([*prompt, *ids], max_tokens=1, logprobs=1, echo=True)
        echoed = logprobs_of(again, len(prompt) + NUM_GENERATED + 1, where)
        count = prompt_tokens(again)
        if count is not None and count != len(prompt) + NUM_GENERATED:
            raise EndpointError(
                f"{where}: reads {count} tokens where {len(prompt) + NUM_GENERATED} were sent, as if "
                "it added a beginning token, so it can't be scored by likelihood"
            )
        _compare(generated, echoed, len(prompt), where)
        num_compared += 1
    if not num_compared:
        raise EndpointError(f"{where}: the probe of its log-probabilities found no two tokens to compare")


def _compare(generated: TokenLogprobs, echoed: TokenLogprobs, num_prompt: int, where: str) -> None:
    for index, value in enumerate(generated.values):
        other = echoed.values[num_prompt + index]
        if value is None or other is None:
            raise EndpointError(
                f"{where}: returns no log-probability of a generated token, so it can't be scored by "
                "likelihood"
            )
        if abs(value - other) > TOLERANCE:
            raise EndpointError(
                f"{where}: is not consistent with itself: a token that it generates with log-probability "
                f"{value:.4f} has {other:.4f} when it is sent back with echo, so it can't be scored "
                "by likelihood"
            )
    values = [value for value in echoed.values if value is not None]
    if max(values) - min(values) < LEAST_SPREAD:
        raise EndpointError(
            f"{where}: all log-probabilities of the probe are about {values[0]:.2f} (not a model's)"
        )
