"""Runs tasks at once, each in a thread."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

_T = TypeVar("_T")


def at_once(tasks: Sequence[Callable[[], _T]], most: int) -> Iterator[tuple[int, _T]]:
    """Yield index and result of each task as it ends; `most` tasks run at once, each in a thread.

    After a task's error no further task is begun; the results of those that run are still yielded, and then
    the first error is raised.
    """
    numbered, errors = enumerate(tasks), []
    with ThreadPoolExecutor(most) as pool:
        running = {pool.submit(task): index for _, (index, task) in zip(range(most), numbered, strict=False)}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            errors += [error for future in done if (error := future.exception()) is not None]
            for future in done:
                index = running.pop(future)
                if future.exception() is not None:
                    continue
                following = next(numbered, None) if not errors else None
                if following is not None:
                    running[pool.submit(following[1])] = following[0]
                yield index, future.result()
    if errors:
        raise errors[0]
