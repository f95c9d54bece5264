"""Parses flags on the command line: Hydra's, in any position, and those of other tools."""

from collections.abc import Sequence
from pathlib import Path

from workbench.cli.foreign_keys import no_such_stage
from workbench.cli.foreign_words import HERE, way
from workbench.cli.key_types import groups, kind_of
from workbench.cli.other_tools.translation import translate
from workbench.errors import ConfigError

FLAGS = {
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m"), 0),
    **dict.fromkeys(("--shell-completion", "-sc", "--version"), 0),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--info", "-i"), 1),
    **dict.fromkeys(("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"), 1),
}
"""Hydra's flags -> how many values follow them."""

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


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's flags, each as one word such as `--cfg=job`, and the other words of a command line.

    Raises:
        ConfigError: A flag is unknown, or two flags exclude each other.
    """
    flags: list[str] = []
    overrides: list[str] = []
    remaining = list(words)
    check_foreign_flags(words)
    while remaining:
        word = remaining.pop(0)
        if word.startswith("-") and word != "--":
            flags.append(flag_word(word, remaining))
        elif word not in ("--", ""):
            overrides.append(word)
    check_together(flags)
    return flags, overrides


def check_foreign_flags(words: Sequence[str]) -> None:
    """Check that a command line doesn't have two or more flags of other tools, such as `--lora_rank 8`.

    One such flag passes, because `flag_word` reports it.

    Raises:
        ConfigError: It has, or a `--stage` doesn't exist here; the message says what to write instead.
    """
    answers: dict[str, str] = {}
    content: dict[str, str] = {}
    for index, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and len(flag) > len("--") and flag not in FLAGS:
            name, value = key_and_value(flag, value if equals else "", words[index + 1 :])
            answers[flag] = way(name, value)
            content[name] = value
    if stage := no_such_stage(content.get("stage")):
        raise ConfigError(f"--stage: {stage}")
    known = [flag for flag, answer in answers.items() if answer.startswith(HERE)]
    if len(known) > 1:
        found = translate(content)
        without = f"; without a counterpart: {', '.join(found.without)}" if found.without else ""
        notes = "".join(f"; {note}" for note in found.notes)
        here = f"here they are {' '.join(found.words())}{without}{notes}"
        raise ConfigError(f"{', '.join(answers)}: no such flags ({here})")


def flag_word(word: str, remaining: list[str]) -> str:
    """Return a flag as one word, `--cfg=job` for `-c job`; its value is removed from the `remaining` words.

    Raises:
        ConfigError: The flag is unknown, or its value is missing or wrong.
    """
    flag, equals, value = word.partition("=")
    if flag not in FLAGS:
        raise ConfigError(unknown_flag(flag, value if equals else "", remaining))
    long = LONG.get(flag, flag)
    if not FLAGS[flag]:
        return long
    if (
        not equals
        and remaining
        and not remaining[0].startswith("-")
        and not (long == "--info" and "=" in remaining[0])
    ):
        value = remaining.pop(0)
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
    """Check that the flags go together.

    Raises:
        ConfigError: Two flags exclude each other, or --resolve lacks the flag that it needs.
    """
    named = [flag.partition("=")[0] for flag in flags]
    commands = sorted(COMMANDS & set(named))
    if len(commands) > 1:
        raise ConfigError(f"{commands[1]}: excludes {commands[0]} (use one of them)")
    if "--resolve" in named and not {"--cfg", "--help"} & set(named):
        raise ConfigError(
            "--resolve: needs --cfg job (it then prints the configuration with all values filled in)"
        )


def unknown_flag(flag: str, value: str, following: Sequence[str]) -> str:
    """Return the error message for an unknown flag, with a hint how to write it here.

    Args:
        flag: The flag without its value, such as `--lora-rank`.
        value: The text after its `=`, or empty.
        following: The words after the flag.
    """
    return f"{flag}: no such flag ({way(*key_and_value(flag, value, following))})"


def key_and_value(flag: str, value: str, following: Sequence[str]) -> tuple[str, str]:
    """Split a flag into a key and its value: `--lora-rank 8` into (`lora_rank`, `8`).

    Without a value after `=`, the next word is the value, unless it is a flag or an override; then the value
    is empty.

    Args:
        flag: The flag without its value.
        value: The text after its `=`, or empty.
        following: The words after the flag.
    """
    if not value and following and not following[0].startswith("-") and not is_override(following[0]):
        value = following[0]
    name = flag.lstrip("-")
    return (name.replace("-", "_") if kind_of(name) is None else name), value


def is_override(word: str) -> bool:
    """Return whether a word is KEY=VALUE with a key or group of this program."""
    key, equals, _ = word.partition("=")
    return bool(equals) and (kind_of(key) is not None or key in groups())
