"""The chat step: reads lines from a terminal or a pipe, and prints replies as they grow."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol

from rich.live import Live
from rich.table import Table
from rich.text import Text

from workbench.errors import DataError, WorkbenchError
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.chat.commands import FENCE, introduction, run_command
from workbench.pipeline.chat.session import STOPPED, Reply, Session
from workbench.pipeline.run_state import Run
from workbench.shown import clean
from workbench.wrapping import plain_console


class Show(Protocol):
    """Function that displays a growing reply."""

    def __call__(self, name: str, text: str, is_last: bool = False) -> None:
        """Display all text so far of the reply of the model `name`; `is_last`: the reply is complete."""


def chat(run: Run) -> None:
    """Answer lines of the terminal until /bye or Ctrl-D, or lines of a pipe until its end.

    Errors in a terminal are printed, and the chat goes on. The Python interface has no function for it:
    `workbench.load_model` gives a model to generate with.

    Raises:
        WorkbenchError: A model is missing or can't chat, or a line of a pipe can't be answered.
        KeyboardInterrupt: Ctrl-C stopped a chat through a pipe.
    """
    with prepacked():
        session, interactive = Session(run), sys.stdin.isatty()
        if interactive:
            import readline  # noqa: F401  gives input() line editing and history

            print(introduction(session))
        while True:
            try:
                text, is_command = read_request(input if interactive else read_piped)
                if is_command and text.strip() == "/bye":
                    return
                notes = (run_command if is_command else ask_models)(session, text) if text.strip() else ""
                if notes:
                    print(clean(notes), file=sys.stdout if interactive else sys.stderr, flush=True)
                if not interactive and notes.endswith(STOPPED):
                    raise KeyboardInterrupt
            except EOFError:
                return print() if interactive else None
            except KeyboardInterrupt:
                if not interactive:
                    raise
                print("\n/bye or Ctrl-D ends")
            except WorkbenchError as error:
                if not interactive:
                    raise
                print(f"error: {clean(str(error))}")


def read_piped(prompt: str) -> str:
    """Read a line, with its end, of a pipe or file at stdin; `prompt` is not shown.

    Raises:
        EOFError: There are no more lines.
        UnicodeDecodeError: The line isn't UTF-8.
    """
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError
    return line.decode("utf-8-sig")


def read_request(read: Callable[[str], str]) -> tuple[str, bool]:
    """Read a line, or several lines between triple quotes.

    Args:
        read: Reads a line, given the prompt to show.

    Returns:
        (The text, whether it is a command.)

    Raises:
        DataError: The text isn't UTF-8.
        EOFError: There are no more lines.
    """
    try:
        text = read(">>> ").rstrip("\r\n")
        is_block = text.strip().startswith(FENCE)
        text = text.strip().removeprefix(FENCE) if is_block else text
        with suppress(EOFError):
            while is_block and not text.endswith(FENCE):
                text += "\n" + read("... ").rstrip()
    except UnicodeDecodeError as error:
        raise DataError(
            "stdin: not UTF-8 text (iconv -f GB18030 -t UTF-8 makes such a file UTF-8)"
        ) from error
    text = text.removesuffix(FENCE).strip("\n") if is_block else text
    return text.encode("utf-8", "replace").decode("utf-8"), text.startswith("/") and not is_block


def ask_models(session: Session, message: str) -> str:
    """Ask the selected models, display their replies as they grow, and add them to the conversation.

    Returns a line for each reply that is not fit for training; "" if all are. After Ctrl-C the remaining
    models are not asked.
    """
    replies: dict[str, Reply] = {}
    display = show_columns if len(session.names) > 1 and sys.stdout.isatty() else show_lines
    with display(session.names) as show:
        for name in session.names:
            reply = replies[name] = session.ask(message, name, partial(show, name))
            show(name, reply.text, is_last=True)
            if reply.note == STOPPED:
                break
    session.add(message, replies)
    return "\n".join(f"{name}: {reply.note}" for name, reply in replies.items() if reply.note)


@contextmanager
def show_columns(names: Sequence[str]) -> Iterator[Show]:
    """Yield a function that displays replies side by side, one column each."""
    texts = dict.fromkeys(names, "")

    def table() -> Table:
        replies = Table(box=None, expand=True, padding=(0, 2, 0, 0))
        for name in names:
            replies.add_column(name, ratio=1, overflow="fold")
        replies.add_row(*(Text(clean(text)) for text in texts.values()))
        return replies

    def show(name: str, text: str, is_last: bool = False) -> None:
        texts[name] = text

    console = plain_console()
    with Live(console=console, get_renderable=table, refresh_per_second=10, transient=True):
        yield show
    console.print(table())


@contextmanager
def show_lines(names: Sequence[str]) -> Iterator[Show]:
    """Yield a function that displays replies one below the other.

    Outside a terminal, a reply is printed when it is complete.
    """
    printed, is_terminal = "", sys.stdout.isatty()

    def show(name: str, text: str, is_last: bool = False) -> None:
        nonlocal printed
        text = (f"{name}: " if len(names) > 1 else "") + clean(text)
        if is_last and not text.startswith(printed):  # a later token has changed what was printed
            text = f"{printed}\n{text}"
        if is_last or (is_terminal and text.startswith(printed)):
            print(text[len(printed) :], end="\n" if is_last else "", flush=True)
            printed = "" if is_last else text

    yield show
