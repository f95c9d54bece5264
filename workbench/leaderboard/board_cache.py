"""Caches item scores, file checksums and slow tests in a leaderboard's folder, for the next leaderboard."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.files import settle_file
from workbench.leaderboard.file_digests import keeping_digests
from workbench.leaderboard.items.index import ItemIndex
from workbench.statistics.kept_results import keeping_results

INDEX = ".leaderboard.index"
"""Cache of a large board's item scores; the key is the content of the predictions file."""

DIGESTS = ".leaderboard.digests"
"""Cache of the checksums of a large board's predictions files; the key is the file's size, inode and
times."""

RESULTS = ".leaderboard.tests"
"""Cache of a large board's slow statistical tests; the key is the content of the tested data."""


@contextmanager
def keeping(folder: Path) -> Iterator[ItemIndex]:
    """Use the three cache files in a leaderboard's folder, which must exist, during the `with` block.

    Yields the cache of item scores, which `build` takes and writes. The caches of checksums and of tests are
    used by all code within the block, and written at its end unless it raises an error. A damaged file counts
    as empty. Writing drops the entries that the block didn't use; caches with few entries aren't written.
    """
    for name in (INDEX, DIGESTS, RESULTS):
        settle_file(folder / name)
    with keeping_digests(folder / DIGESTS), keeping_results(folder / RESULTS):
        yield ItemIndex(folder / INDEX)
