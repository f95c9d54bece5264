"""Shows the progress of a long task: a bar on a terminal, log lines elsewhere."""

import logging
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from workbench.shown import clean
from workbench.wrapping import plain_console

LINE_SECONDS = 10.0
"""Seconds between two log lines if there is no terminal."""

log = logging.getLogger("workbench")


class Progress:
    """Progress of a task, with pace and time left: during the `with` block a bar on a terminal's stderr.

    If stderr is not a terminal, a line is logged every `LINE_SECONDS`.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        done: int = 0,
        unit: str = "items",
        is_shown: bool = True,
        is_kept: bool = False,
    ) -> None:
        """Prepare the bar.

        Args:
            title: Title of the task.
            total: Number of units of the task.
            done: Units that an earlier session has done.
            unit: Name of the units, plural.
            is_shown: False draws no bar and logs no progress, as on all ranks but rank 0.
            is_kept: Whether the bar stays on the terminal when the task ends.
        """
        console = plain_console(stderr=True)
        self.title, self.unit, self.total = clean(title), unit, total
        self.done = self.initial_done = done
        self.is_shown = is_shown
        self.start = self.last_line = time.monotonic()
        self.first: tuple[float, int] | None = None
        self.bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(),
            console=console,
            transient=not is_kept,
            refresh_per_second=2,
            disable=not (is_shown and console.is_terminal),
        )
        self.task = self.bar.add_task(self.title, total=total, completed=done, pace="")

    def __enter__(self) -> "Progress":
        """Start drawing the bar."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing the bar."""
        self.bar.stop()

    def rename(self, title: str) -> None:
        """Replace the title of the task by another, for its next units."""
        self.title = clean(title)
        self.bar.update(self.task, description=self.title)

    def advance(self, count: int) -> None:
        """Show that `count` more units are done, with the mean pace since the start in units per second."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        done = self.done + count
        rate = (done - self.initial_done) / seconds
        self.reach(done, f"{rate:.1f} {self.unit}/s" if rate >= 1 else f"{rate:.2g} {self.unit}/s")

    def reach(self, done: int, pace: str) -> None:
        """Show that `done` units are done in total, with the text `pace`, such as `3.1 items/s`."""
        self.done = done
        self.first = self.first or (time.monotonic(), done)
        self.bar.update(self.task, completed=done, pace=pace)
        if self.is_shown and self.bar.disable and time.monotonic() - self.last_line >= LINE_SECONDS:
            self.last_line = time.monotonic()
            count = f"{done} of {self.total} {self.unit}"
            log.info("%s: %s, %s%s", self.title, count, pace, self._time_left())

    def say(self, line: str) -> None:
        """Print a line above the bar, or log it if no bar is drawn."""
        if self.bar.disable:
            log.info(line)
        else:
            self.bar.console.print(line, soft_wrap=True)

    def _time_left(self) -> str:
        """Return the time left, as `, 1:02:03 left`, at the pace since the first report of finished units.

        At that first report it is empty, because the pace until then includes the start of the task.
        """
        start, done = self.first or (self.start, self.done)
        if done == self.done:
            return ""
        seconds_per_unit = (time.monotonic() - start) / (self.done - done)
        minutes, seconds = divmod(round(seconds_per_unit * (self.total - self.done)), 60)
        hours, minutes = divmod(minutes, 60)
        return f", {hours}:{minutes:02d}:{seconds:02d} left" if hours else f", {minutes}:{seconds:02d} left"
