"""The chat step: lines of a terminal or a pipe in, replies out as they grow."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workbench.errors import ConfigError, DataError, WorkbenchError
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.chat.session import STOPPED, Reply, Session
from workbench.pipeline.run_state import Run
from workbench.shown import clean

FENCE = '"""'
HELP = f"""\
/system TEXT   what stands before the conversation; no text takes it away
/clear         forget the conversation
/model NAME    who answers from now on: base, adapter, merged, trained
/both          the base and what was trained answer side by side
/seed N        draw otherwise, where chat.temperature is above 0
/save FILE     write the conversation as JSONL to train on
/help, /bye    this text; the end, as Ctrl-D
{FENCE}            begins and ends a text of several lines
Ctrl-C         stops an answer"""


class Show(Protocol):
    """Shows the reply of a model as far as it has come."""

    def __call__(self, name: str, text: str, is_last: bool = False) -> None:
        """Take the model's name and its text."""


def chat(run: Run) -> None:
    """Talk until /bye or Ctrl-D; each line of a pipe is a turn.

    Raises:
        WorkbenchError: as `Session` says; in a pipe also the first turn that can't be answered.
    """
    with prepacked():
        session, interactive = Session(run), sys.stdin.isatty()
        if interactive:
            import readline  # noqa: F401  gives input() its editing and its history

            print(introduction(session))
        while True:
            try:
                text, is_command = request(input if interactive else piped)
                if is_command and text.strip() == "/bye":
                    return
                notes = command(session, text) if is_command else turn(session, text) if text.strip() else ""
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


def piped(prompt: str) -> str:
    """A line of a pipe or a file; EOFError at its end."""
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError
    return line.decode("utf-8-sig")


def request(read: Callable[[str], str]) -> tuple[str, bool]:
    """What is asked, a line or several between triple quotes, and whether it is a command.

    Raises:
        DataError: it isn't UTF-8.
        EOFError: nothing more comes.
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


def turn(session: Session, said: str) -> str:
    """Ask every model that answers and show its reply as it grows; what a reply doesn't tell of itself."""
    replies: dict[str, Reply] = {}
    with (columns if len(session.names) > 1 and sys.stdout.isatty() else lines)(session.names) as show:
        for name in session.names:
            reply = replies[name] = session.ask(said, name, partial(show, name))
            show(name, reply.text, is_last=True)
            if reply.note == STOPPED:
                break
    session.add(said, replies)
    return "\n".join(f"{name}: {reply.note}" for name, reply in replies.items() if reply.note)


@contextmanager
def columns(names: Sequence[str]) -> Iterator[Show]:
    """Shows replies side by side, a column each."""
    texts = dict.fromkeys(names, "")

    def table() -> Table:
        beside = Table(box=None, expand=True, padding=(0, 2, 0, 0))
        for name in names:
            beside.add_column(name, ratio=1, overflow="fold")
        beside.add_row(*(Text(clean(text)) for text in texts.values()))
        return beside

    def show(name: str, text: str, is_last: bool = False) -> None:
        texts[name] = text

    console = Console()
    with Live(console=console, get_renderable=table, refresh_per_second=10, transient=True):
        yield show
    console.print(table())


@contextmanager
def lines(names: Sequence[str]) -> Iterator[Show]:
    """Shows replies one below the other; each at once, and whole, where the output isn't a terminal."""
    shown, grows = "", sys.stdout.isatty()

    def show(name: str, text: str, is_last: bool = False) -> None:
        nonlocal shown
        text = (f"{name}: " if len(names) > 1 else "") + clean(text)
        if is_last and not text.startswith(shown):  # a later token has changed what was shown
            text = f"{shown}\n{text}"
        if is_last or (grows and text.startswith(shown)):
            print(text[len(shown) :], end="\n" if is_last else "", flush=True)
            shown = "" if is_last else text

    yield show


def introduction(session: Session) -> str:
    """Who answers, who else could, and what a line is."""
    others = [name for name in session.models.names if name not in session.names]
    among = f" (/model {', /model '.join(others)} and /both are there)" if others else ""
    bare = "" if session.has_turns else "; each line is a prompt of its own, without the lines before"
    return f"chat: {' and '.join(session.names)}{among}{bare}; /help, /bye"


def command(session: Session, text: str) -> str:
    """Do what a command says; what there is to show of it.

    Raises:
        WorkbenchError: there is no such command, or it can't be done.
    """
    name, _, value = text.strip().partition(" ")
    value = value.strip()
    match name:
        case "/help":
            return HELP
        case "/clear":
            session.exchanges.clear()
            return "a new conversation"
        case "/system" if session.has_turns:
            session.system = value
            return f"system: {value or 'none'}"
        case "/system":
            raise ConfigError("/system: bare prompts have no system text (chat.turns=true makes turns)")
        case "/model" | "/both":
            both = dict.fromkeys(["base", session.models.names[0]])
            session.choose(list(both) if name == "/both" else [value] if value else session.names)
            return introduction(session)
        case "/seed" if value.isdecimal():
            session.seed = int(value)
            return f"seed: {session.seed}"
        case "/save" if value:
            return f"{value}: {session.save(Path(value).expanduser())} rows"
    raise ConfigError(f"{text}: not understood (/help lists the commands; between {FENCE} it is a text)")
