"""The commands of a chat, such as /system and /model."""

from pathlib import Path

from workbench.errors import ConfigError
from workbench.pipeline.chat.session import Session

FENCE = '"""'
HELP = f"""\
/system TEXT   set the system message; without TEXT, remove it
/clear         start a new conversation
/model NAME    choose the model that answers: base, adapter, merged, trained
/both          base and trained model answer side by side
/seed N        set the seed of sampling (chat.temperature above 0)
/save FILE     write the conversation as JSONL to train on
/help, /bye    show this text; end the chat, as Ctrl-D does
{FENCE}            starts and ends a text of several lines
Ctrl-C         stops an answer"""


def introduction(session: Session) -> str:
    """Return the line that greets the user: models that answer, models to choose, /help and /bye."""
    others = [name for name in session.models.names if name not in session.names]
    choices = f" (also: /model {', /model '.join(others)}, /both)" if others else ""
    separate = "" if session.has_turns else "; each line is a separate prompt, without the lines before"
    return f"chat: {' and '.join(session.names)}{choices}{separate}; /help, /bye"


def run_command(session: Session, text: str) -> str:
    """Run a command, such as `/seed 7`, which may change the session; return the text to print.

    /bye is not a command here: the caller ends the chat.

    Raises:
        WorkbenchError: The command is unknown, or it failed.
    """
    name, _, value = text.strip().partition(" ")
    value = value.strip()
    match name:
        case "/help":
            return HELP
        case "/clear":
            session.exchanges.clear()
            return "new conversation"
        case "/system" if session.has_turns:
            session.system = value
            return f"system: {value or 'none'}"
        case "/system":
            raise ConfigError(
                "/system: there is no system message without turns (chat.turns=true makes turns)"
            )
        case "/model" | "/both":
            both = dict.fromkeys(["base", session.models.names[0]])
            session.choose(list(both) if name == "/both" else [value] if value else session.names)
            return introduction(session)
        case "/seed" if value.isdecimal():
            session.seed = int(value)
            return f"seed: {session.seed}"
        case "/save" if value:
            return f"{value}: {session.save(Path(value).expanduser())} rows"
    raise ConfigError(f"{text}: unknown command (/help lists the commands; between {FENCE} it is a text)")
