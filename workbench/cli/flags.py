"""Flags on the command line: Hydra's own, wherever they stand, and those of other tools."""

from collections.abc import Sequence

from workbench.cli.answers import way
from workbench.cli.keys import groups, kind_of
from workbench.errors import ConfigError

FLAGS = {
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m"), 0),
    **dict.fromkeys(("--shell-completion", "-sc", "--version"), 0),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--info", "-i"), 1),
    **dict.fromkeys(("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"), 1),
}
"""Hydra's flags -> how many words follow them."""

FLAG_CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
SHORT = {"-c": "--cfg", "-i": "--info", "-m": "--multirun", "-r": "--run", "-sc": "--shell-completion"}
COMMANDS = {"--run", "--multirun", "--cfg", "--info", "--shell-completion"}


def sorted_out(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the overrides.

    Raises:
        ConfigError: a flag that there isn't, or that doesn't go with another one.
    """
    flags: list[str] = []
    overrides: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        if word in ("--", "") or not word.startswith("-"):
            overrides += [word] if word not in ("--", "") else []
        elif flag not in FLAGS:
            raise ConfigError(flag_here(flag, value if equals else "", waiting))
        elif not FLAGS[flag] or equals:
            flags.append(word)
            check_flag(flag, value)
        elif (
            waiting
            and not waiting[0].startswith("-")
            and (flag not in ("--info", "-i") or plain_word(waiting))
        ):
            flags += [flag, waiting.pop(0)]
            check_flag(flag, flags[-1])
        elif flag in ("--info", "-i"):
            flags.append(flag)
        else:
            raise ConfigError(f"{flag}: its value is missing (as in '{flag} {example(flag)}')")
    check_together(flags)
    return flags, overrides


def plain_word(waiting: Sequence[str]) -> bool:
    """Whether the next word is the value of `--info`, not an override."""
    return "=" not in waiting[0]


def example(flag: str) -> str:
    """A value of a flag, to show how it is written."""
    return {"--cfg": "job", "--package": "train", "--info": "all"}.get(SHORT.get(flag, flag), "NAME")


def check_flag(flag: str, value: str) -> None:
    """Refuse a value that a flag doesn't take.

    Raises:
        ConfigError: it doesn't.
    """
    known = FLAG_CHOICES.get(SHORT.get(flag, flag))
    if known and value not in known:
        raise ConfigError(f"{flag}: unknown value {value!r} (known: {', '.join(known)})")


def check_together(flags: Sequence[str]) -> None:
    """Refuse flags that contradict each other.

    Raises:
        ConfigError: they do.
    """
    named = [SHORT.get(flag, flag).partition("=")[0] for flag in flags]
    commands = sorted(COMMANDS & set(named))
    if len(commands) > 1:
        raise ConfigError(f"{commands[1]}: doesn't go with {commands[0]} (one of the two)")
    if "--resolve" in named and not {"--cfg", "--help", "-h"} & set(named):
        raise ConfigError(
            "--resolve: goes with --cfg job (it shows the configuration with all values filled in)"
        )


def flag_here(flag: str, value: str, following: Sequence[str]) -> str:
    """What to say of a flag that there isn't: how it is written here."""
    if not value and following and not following[0].startswith("-") and not is_override(following[0]):
        value = following[0]
    name = flag.lstrip("-").replace("-", "_") if kind_of(flag.lstrip("-")) is None else flag.lstrip("-")
    return f"{flag}: no such flag ({way(name, value)})"


def is_override(word: str) -> bool:
    """Whether a word gives one of our keys a value."""
    key, equals, _ = word.partition("=")
    return bool(equals) and (kind_of(key) is not None or key in groups())
