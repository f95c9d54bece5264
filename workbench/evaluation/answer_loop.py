"""Asks a model the items without cached answers, in chunks shared out among processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from workbench.distributed import all_gather_dict, rank_and_world_size
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.records import Answer
from workbench.progress import Progress

_CHUNK = 256
"""Largest number of questions in a chunk; the prompts of a chunk share prefixes."""
_CHUNKS_PER_RANK = 4

Unit = TypeVar("Unit")


def chunks(units: Sequence[Unit], group: Callable[[Unit], object]) -> Iterator[list[Unit]]:
    """Split units (items, texts or requests) into chunks of adjacent units with the same `group`.

    A chunk has at most 256 units. With several processes chunks are smaller (down to 16 units), because the
    processes share the work by chunks.
    """
    world_size = rank_and_world_size()[1]
    size = min(_CHUNK, max(16, len(units) // (world_size * _CHUNKS_PER_RANK))) if world_size > 1 else _CHUNK
    chunk: list[Unit] = []
    for unit in units:
        if chunk and (group(chunk[0]) != group(unit) or len(chunk) == size):
            yield chunk
            chunk = []
        chunk.append(unit)
    if chunk:
        yield chunk


def ask(
    keyed: Iterable[Sequence[tuple[str, Unit]]],
    answers: Callable[[list[Unit]], Iterator[tuple[int, Answer]]],
    cache: AnswerCache,
    title: str,
    total: int,
    fits: Callable[[Unit, Answer], bool] = lambda _, __: True,
    check_kept: Callable[[Sequence[tuple[Unit, Answer]]], None] | None = None,
) -> tuple[dict[str, Answer], int]:
    """Ask the units without a cached answer; return key -> answer, and the number of units asked.

    A unit is an item, a text, or all requests of an item. The returned answers are those of all processes and
    of the cache; the number counts only the units that this process asked. Every process must call it with
    the same chunks, of which each asks its share.

    Args:
        keyed: chunks of (key of the answer, unit to ask).
        answers: yields index and answer of each unit, as soon as the answer is known.
        cache: cached answers, to which new answers are added.
        title: title of the progress bar.
        total: number of units.
        fits: returns whether a cached answer fits its unit; otherwise the unit is asked again.
        check_kept: called before a unit is asked, with the units that have cached answers, unless all have:
            raises an error if the model isn't the one that gave them. None: nothing is checked.
    """
    if check_kept is not None and not cache.answers:
        check_kept([])
    elif check_kept is not None:
        keyed = [list(chunk) for chunk in keyed]
        units = {key: unit for chunk in keyed for key, unit in chunk}
        answered = [
            (unit, cache[key]) for key, unit in units.items() if key in cache and fits(unit, cache[key])
        ]
        if len(answered) < len(units):
            check_kept(answered)
    rank, world_size = rank_and_world_size()
    new: dict[str, Answer] = {}
    with Progress(title, total, is_shown=rank == 0) as progress, cache.writing() as writer:
        for number, chunk in enumerate(keyed):
            is_own = number % world_size == rank
            for key, unit in chunk:
                if key in cache and not fits(unit, cache[key]):
                    cache.drop(key)
            waiting = {key: unit for key, unit in chunk if is_own and key not in cache}
            progress.advance(len(chunk) - len(waiting))
            keys = list(waiting)
            for index, answer in answers(list(waiting.values())):
                writer.add(keys[index], answer)
                new[keys[index]] = answer
                progress.advance(1)
    return {**cache.answers, **all_gather_dict(new)}, len(new)
