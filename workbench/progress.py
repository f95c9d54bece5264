"""Progress of a long task: a bar on a terminal, a line now and then elsewhere."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from workbench.shown import clean

LINE_SECONDS = 10.0
"""Between two lines where there is no terminal."""

log = logging.getLogger("workbench")


class Progress:
    """How much of a task is done, at what pace, and the time left."""

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
            title: Of the task.
            total: Units of the whole task.
            done: Units that an earlier session has done.
            unit: Name of the units, in the plural.
            is_shown: False on all ranks but the first.
            is_kept: Whether the bar stays on the terminal when the task ends.
        """
        console = Console(stderr=True)
        self.title, self.unit, self.total, self.done, self.begun_at = clean(title), unit, total, done, done
        self.is_shown = is_shown
        self.start = self.last_line = time.monotonic()
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
        """Draw the bar."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self.bar.stop()

    def advance(self, count: int) -> None:
        """Show that `count` more units are done."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        done = self.done + count
        self.reach(done, f"{(done - self.begun_at) / seconds:.1f} {self.unit}/s")

    def reach(self, done: int, pace: str) -> None:
        """Show that `done` units are done in all; `pace` is what to say of the speed."""
        self.done = done
        self.bar.update(self.task, completed=done, pace=pace)
        if self.is_shown and self.bar.disable and time.monotonic() - self.last_line >= LINE_SECONDS:
            self.last_line = time.monotonic()
            count = f"{done} of {self.total} {self.unit}"
            log.info("%s: %s, %s, %s left", self.title, count, pace, self._time_left())

    def say(self, words: str) -> None:
        """Show a line above the bar, or in the log where there is none."""
        if self.bar.disable:
            log.info(words)
        else:
            self.bar.console.print(words, soft_wrap=True)

    def _time_left(self) -> str:
        """At the pace of this session, as minutes and seconds."""
        pace = (time.monotonic() - self.start) / max(self.done - self.begun_at, 1)
        minutes, seconds = divmod(round(pace * (self.total - self.done)), 60)
        return f"{minutes}:{seconds:02d}"
