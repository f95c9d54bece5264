"""Asks a model what isn't known yet, in chunks that processes share; each answer is kept at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from workbench.distributed import all_gather_dict, rank_and_world_size
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.records import Answer
from workbench.progress import Progress

_CHUNK = 256
"""Questions asked together at most; they share what their prompts have in common."""
_CHUNKS_PER_RANK = 4

Unit = TypeVar("Unit")


def chunks(units: Sequence[Unit], part: Callable[[Unit], object]) -> Iterator[list[Unit]]:
    """Runs of neighbours of the same part, small enough for every process to get some."""
    world = rank_and_world_size()[1]
    size = min(_CHUNK, max(16, len(units) // (world * _CHUNKS_PER_RANK))) if world > 1 else _CHUNK
    chunk: list[Unit] = []
    for unit in units:
        if chunk and (part(chunk[0]) != part(unit) or len(chunk) == size):
            yield chunk
            chunk = []
        chunk.append(unit)
    if chunk:
        yield chunk


def ask(
    keyed: Iterable[Sequence[tuple[str, Unit]]],
    answers: Callable[[list[Unit]], Iterator[tuple[int, Answer]]],
    kept: AnswerCache,
    title: str,
    total: int,
    fits: Callable[[Unit, Answer], bool] = lambda _, __: True,
) -> tuple[dict[str, Answer], int]:
    """The answer to each key, and how many this process had to ask for.

    Args:
        keyed: runs of what can be asked, each with the key that its answer is kept under.
        answers: gives number and answer of each, as soon as it is known.
        kept: answers already had, and where new ones go.
        title: of the progress.
        total: how many there are.
        fits: whether a kept answer can be one to this unit; one that can't is asked again.
    """
    rank, world = rank_and_world_size()
    new: dict[str, Answer] = {}
    with Progress(title, total, is_shown=rank == 0) as progress, kept.writing() as writer:
        for number, chunk in enumerate(keyed):
            mine = number % world == rank
            for key, unit in chunk:
                if key in kept and not fits(unit, kept[key]):
                    kept.drop(key)
            waiting = {key: unit for key, unit in chunk if mine and key not in kept}
            progress.advance(len(chunk) - len(waiting))
            keys = list(waiting)
            for index, answer in answers(list(waiting.values())):
                writer.add(keys[index], answer)
                new[keys[index]] = answer
                progress.advance(1)
    return {**kept.answers, **all_gather_dict(new)}, len(new)
