"""Keeps beside a leaderboard what the next one of the same runs needn't compute again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.files import settle_file
from workbench.leaderboard.file_digests import keeping_digests
from workbench.leaderboard.items.index import ItemIndex
from workbench.statistics.kept_results import keeping_results

INDEX = ".leaderboard.index"
"""File of a large board's item scores, by the content of the files of predictions."""

DIGESTS = ".leaderboard.digests"
"""File of the checksums of a large board's files of predictions, by the state of these files."""

RESULTS = ".leaderboard.tests"
"""File of a large board's slow tests, by the content of what they test."""


@contextmanager
def keeping(folder: Path) -> Iterator[ItemIndex]:
    """Use and renew what is kept in a leaderboard's folder during the block; yield its index of items.

    A damaged file is made again. What the block doesn't use is dropped.
    """
    for name in (INDEX, DIGESTS, RESULTS):
        settle_file(folder / name)
    with keeping_digests(folder / DIGESTS), keeping_results(folder / RESULTS):
        yield ItemIndex(folder / INDEX)
