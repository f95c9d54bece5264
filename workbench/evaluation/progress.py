"""Shows rate and time left of a long evaluation: a bar on a terminal, a line every half minute elsewhere."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from workbench.shown import clean

_SECONDS_BETWEEN_LINES = 30.0
log = logging.getLogger("workbench")


class Progress:
    """Progress of one model on one benchmark."""

    def __init__(self, title: str, total: int, shown: bool = True) -> None:
        """Take what is shown and the number of items; `shown` is False in all processes but the first."""
        self.shown = shown
        self.title = clean(title)
        self.total = total
        self.done = 0
        self.start = self.last = time.monotonic()
        console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (shown and console.is_terminal),
        )

    def __enter__(self) -> "Progress":
        """Show it."""
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=self.total, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self.bar.stop()

    def advance(self, count: int) -> None:
        """Say that `count` more items are done."""
        self.done += count
        now = time.monotonic()
        rate = self.done / max(now - self.start, 1e-9)
        self.bar.update(self.task, advance=count, rate=f"{rate:.1f} items/s")
        if (
            self.shown
            and self.bar.disable
            and now - self.last >= _SECONDS_BETWEEN_LINES
            and self.done < self.total
        ):
            self.last = now
            left = (self.total - self.done) / rate
            log.info("%s: %d of %d, %.1f items/s, %.0f s left", self.title, self.done, self.total, rate, left)
