"""Runs tasks at once, each in a thread."""

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")


def at_once(tasks: Sequence[Callable[[], _T]], most: int) -> Iterator[tuple[int, _T]]:
    """Yield index and result of each task as it ends; `most` tasks run at once, each in a thread.

    After a task's error no further task is begun; the results of those that run are still yielded, and then
    the first error is raised. A result counts as running until it is asked for, so that at most `most` are
    lost with the process. Threads don't keep a process alive that ends by Ctrl-C.
    """
    numbered, lock = enumerate(tasks), threading.Lock()
    free, stopped = threading.Semaphore(most), threading.Event()
    ended: SimpleQueue[tuple[int, _T | None, BaseException | None] | None] = SimpleQueue()

    def work() -> None:
        while free.acquire() and not stopped.is_set():
            with lock:
                index, task = next(numbered, (-1, None))
            if task is None:
                break
            try:
                ended.put((index, task(), None))
            except BaseException as error:
                stopped.set()
                ended.put((index, None, error))
        free.release()  # for the other threads, which have to end too
        ended.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(most, len(tasks)))]
    for thread in threads:
        thread.start()
    num_running, errors = len(threads), []
    try:
        while num_running:
            if (outcome := ended.get()) is None:
                num_running -= 1
                continue
            free.release()
            index, result, error = outcome
            if error is not None:
                errors.append(error)
            else:
                yield index, result  # type: ignore[misc]
    finally:
        stopped.set()
        free.release(most)
    if errors:
        raise errors[0]
