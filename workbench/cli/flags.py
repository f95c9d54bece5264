"""Flags on the command line: Hydra's own, wherever they stand, and those of other tools."""

from collections.abc import Sequence
from pathlib import Path

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
LONG = {
    **{"-c": "--cfg", "-i": "--info", "-m": "--multirun", "-r": "--run", "-sc": "--shell-completion"},
    **{
        "-h": "--help",
        "-p": "--package",
        "-cp": "--config-path",
        "-cn": "--config-name",
        "-cd": "--config-dir",
    },
}
COMMANDS = {"--run", "--multirun", "--cfg", "--info", "--shell-completion"}


def sorted_out(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, each as one word such as `--cfg=job`, and the overrides.

    Raises:
        ConfigError: a flag that there isn't, or that doesn't go with another one.
    """
    flags: list[str] = []
    overrides: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word.startswith("-") and word != "--":
            flags.append(flag_word(word, waiting))
        elif word not in ("--", ""):
            overrides.append(word)
    check_together(flags)
    return flags, overrides


def flag_word(word: str, waiting: list[str]) -> str:
    """A flag by its long name, with its value, which is taken from the words that follow.

    Raises:
        ConfigError: there is no such flag, or its value is missing or wrong.
    """
    flag, equals, value = word.partition("=")
    if flag not in FLAGS:
        raise ConfigError(flag_here(flag, value if equals else "", waiting))
    long = LONG.get(flag, flag)
    if not FLAGS[flag]:
        return long
    if (
        not equals
        and waiting
        and not waiting[0].startswith("-")
        and not (long == "--info" and "=" in waiting[0])
    ):
        value = waiting.pop(0)
    if not value and long == "--info":
        return long
    known = FLAG_CHOICES.get(long)
    if not value:
        raise ConfigError(f"{flag}: its value is missing (as in '{flag} {known[0] if known else 'NAME'}')")
    if known and value not in known:
        raise ConfigError(f"{flag}: unknown value {value!r} (known: {', '.join(known)})")
    if long == "--config-path":
        value = str(Path(value).absolute())
    return f"{long}={value}"


def check_together(flags: Sequence[str]) -> None:
    """Refuse flags that contradict each other.

    Raises:
        ConfigError: they do.
    """
    named = [flag.partition("=")[0] for flag in flags]
    commands = sorted(COMMANDS & set(named))
    if len(commands) > 1:
        raise ConfigError(f"{commands[1]}: doesn't go with {commands[0]} (one of the two)")
    if "--resolve" in named and not {"--cfg", "--help"} & set(named):
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
