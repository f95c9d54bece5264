"""Repeats a computation on fewer rows or tokens at a time when memory runs out.

A request whose result has been handed on is not computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from workbench.errors import first_line
from workbench.machine import is_out_of_memory

Request = TypeVar("Request")
Result = TypeVar("Result")


def repeated_on_less(
    requests: Sequence[Request],
    attempt: Callable[[list[Request]], Iterator[tuple[int, Result]]],
    halve: Callable[[list[Request], str], None],
) -> Iterator[tuple[int, Result]]:
    """Yield index and result of each request, in the order of `attempt`.

    When memory runs out, `halve` is called, and `attempt` is called again for the requests without a result.

    Args:
        requests: The requests.
        attempt: Yields index and result of each of the requests that it is given.
        halve: Makes the next attempt take less memory; gets the requests without a result, and the reason. It
            raises an error if less is not possible.
    """
    remaining = dict(enumerate(requests))
    while remaining:
        indices, reason = list(remaining), ""
        try:
            for position, result in attempt(list(remaining.values())):
                del remaining[indices[position]]
                yield indices[position], result
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        if not reason:
            return
        if torch.cuda.is_available():  # here, as an exception that is handled keeps its tensors
            torch.cuda.empty_cache()
        halve(list(remaining.values()), reason)
