"""Prepares the words of the command line for Hydra.

Values are used as the shell passes them, and flags of Hydra work in any position. Keys of other tools and
words that aren't understood are reported in one line.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser

from workbench.cli.flags import split_words
from workbench.cli.foreign_keys import key_here, obstacle, option_here
from workbench.cli.foreign_words import HERE, group_options, listed, peft_method, way
from workbench.cli.key_types import Kind, choices, declared_type, groups, is_list, kind_of
from workbench.cli.other_tools.files import check_files_of_other_tools
from workbench.cli.other_tools.translation import translate
from workbench.cli.quoting import container, is_quoted, parses, quoted, split_outside, text_sweep, text_value
from workbench.cli.yaml_files.recipes import recipe_files
from workbench.errors import ConfigError
from workbench.shipped import shipped

KEY = re.compile(r"(\+\+?|~)?([A-Za-z_$][\w$./:-]*)(@[\w.$:-]*)?", re.ASCII)
"""Left side of an override: an optional sign (`+`, `++`, `~`), the key, an optional package (`@NAME`)."""


def prepare(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (Hydra's flags, overrides) of a command line, the overrides quoted for Hydra's grammar.

    `words` don't include the program's name. A flag is one word, as `--cfg=job`; `--config-dir` for ./conf is
    added by `with_own_groups`, and recipe=compare's `a=` and `b=` become keys of `compare`. With
    `--shell-completion` no flag is added, and the overrides are returned as typed.

    Raises:
        ConfigError: A word isn't understood, or its value is refused; the message says how to write it here.
        FileOfAnotherToolError: A word is another tool's configuration file; the message has our command.
    """
    check_files_of_other_tools(words)
    flags, overrides = split_words(words)
    check_foreign_keys(overrides)
    if "--shell-completion" in flags:
        return flags, overrides
    multirun = "--multirun" in flags or "hydra.mode=MULTIRUN" in overrides
    return with_own_groups(flags), [rewritten(word, multirun) for word in in_full(overrides)]


def in_full(words: Sequence[str]) -> list[str]:
    """Return the overrides; with recipe=compare, `a=PATH` becomes `compare.a=PATH`, and likewise b."""
    if "recipe=compare" not in words:
        return list(words)
    return [f"compare.{word}" if word.startswith(("a=", "b=")) else word for word in words]


def rewritten(word: str, multirun: bool) -> str:
    """Return an override with its value quoted for Hydra: `data.path=a,b.csv` -> `data.path='a,b.csv'`.

    An override of a `hydra` key, and one that removes a key, are returned unchanged.

    Raises:
        ConfigError: The word is not KEY=VALUE, or its key or option is written differently here.
    """
    typed, equals, value = word.partition("=")
    form = KEY.fullmatch(typed)
    if form is None or not (equals or form[1] == "~"):
        raise ConfigError(not_an_override(word, typed, equals))
    sign, key, package = form[1] or "", form[2], form[3] or ""
    if key.startswith(("hydra.", "hydra/")) or not equals:
        return word
    value = prepared(key, value, multirun)
    if not (sign or package):
        check_key(key, value)
    return f"{typed}={value}"


def check_foreign_keys(overrides: Sequence[str]) -> None:
    """Check that no override has a key of another tool, such as `lora_rank`.

    Raises:
        ConfigError: An override has such a key; the message says how to write each of them here.
    """
    pairs = (word.partition("=") for word in overrides if "=" in word)
    unknown = [(key, value.strip("'")) for key, _, value in pairs if key not in groups() and not kind_of(key)]
    answers = {key: answer for key, value in unknown if (answer := foreign_key_answer(key, value))}
    if len(answers) == 1:
        key, answer = next(iter(answers.items()))
        raise ConfigError(f"{key}: no such key ({answer})")
    if refused := [answer for answer in answers.values() if not answer.startswith(HERE)]:
        raise ConfigError(f"{', '.join(answers)}: no such keys ({'; '.join(refused)})")
    if answers:
        words = translate({key: value for key, value in unknown if key in answers}).words()
        raise ConfigError(f"{', '.join(answers)}: no such keys (here they are {' '.join(words)})")


def foreign_key_answer(key: str, value: str) -> str | None:
    """Return the hint for another tool's key, as `here it is adapter.rank=8`; None: no such key is known."""
    return way(key, value) if key_here(key) or obstacle(key, value) else None


def given_twice(overrides: Sequence[str]) -> list[str]:
    """Return a message for each key that overrides set to different texts, or remove; Hydra uses the last."""
    values: dict[str, list[str]] = {}
    for word in overrides:
        key, equals, value = word.partition("=")
        values.setdefault(key.lstrip("+~"), []).append(value if equals else "removed")
    return [
        f"{key}: given {len(given)} times, {' then '.join(given)} (the last one counts)"
        for key, given in values.items()
        if len(set(given)) > 1
    ]


def not_an_override(word: str, typed: str, equals: str) -> str:
    """Return the error message for a word of the command line that is not KEY=VALUE.

    Args:
        word: The word.
        typed: Its part before the first `=`.
        equals: `=`, or empty if the word has none.
    """
    if equals and not typed.strip():
        return f"{word!r}: no key before the = (write no spaces around it, as in train.max_steps=20)"
    if equals:
        return f"{word!r}: {typed!r} is not a key (keys are ASCII words and dots, as in data.path=FILE)"
    if word in recipe_files():
        return f"{word!r}: not KEY=VALUE (here it is recipe={word})"
    if recipe := option_here("recipe", word, sorted(recipe_files())):
        return f"{word!r}: not KEY=VALUE (here it is recipe={recipe})"
    if KEY.fullmatch(word) and (kind_of(word) or key_here(word) or word in groups()):
        return f"{word!r}: not KEY=VALUE ({way(word, '')}, without spaces around the =)"
    return f"{word!r}: not KEY=VALUE (as in train.max_steps=20, without spaces around the =)"


def prepared(key: str, value: str, multirun: bool) -> str:
    """Return a key's value for Hydra's grammar: quoted if the key takes text, or if it can't be parsed.

    Args:
        key: Dotted key.
        value: Value as the shell passes it.
        multirun: Whether the command is a sweep (-m), in which `a,b` are two values.

    Raises:
        ConfigError: The value is missing, is not a list where the key takes one, or is a sweep without -m.
    """
    kind = Kind.other if key in groups() else kind_of(key)
    if value.strip("'\"") == "???":
        raise ConfigError(f"{key}: {value!r} stands for a missing value (give a value)")
    if kind is Kind.text:
        return text_sweep(value, home_text) if multirun else home_text(value)
    if kind is Kind.texts:
        return texts(key, value, multirun)
    if parses(value):
        if not multirun and is_sweep(key, value):
            raise ConfigError(several(key, value))
        return value
    if value.lstrip().startswith(("[", "{")):
        contained = container(value)
        if not parses(contained):
            raise ConfigError(f"{key}: can't be read, {value!r} (lists are [a,b], mappings {{KEY: VALUE}})")
        return contained
    if multirun and kind is not None:
        return text_sweep(value, lambda part: part if parses(part) else quoted(part))
    return quoted(value)


def home_text(value: str) -> str:
    """Expand a leading `~/` of a text and quote the text for Hydra; empty, null and quoted texts stay."""
    return text_value(home_path(value))


def home_path(value: str) -> str:
    """Expand a leading `~/` of a text to the home folder."""
    return os.path.expanduser(value) if value.startswith("~/") else value


def texts(key: str, value: str, multirun: bool) -> str:
    """Return the value of a key that takes a list or mapping of texts, with each text quoted for Hydra.

    An empty value, null, a quoted text and an interpolation are returned unchanged.

    Raises:
        ConfigError: The value has another form than the key's declared type, a list or a mapping.
    """
    if value in ("", "null") or is_quoted(value) or value.startswith("${"):
        return value
    declared = declared_type(key)
    if multirun and value.startswith(("[", "{", "choice(")):
        return text_sweep(value, lambda part: inner_texts(key, part, declared))
    return inner_texts(key, value, declared)


def inner_texts(key: str, value: str, declared: Any) -> str:
    """Quote a value of the declared type for Hydra: a text, or each text in a list or mapping.

    Raises:
        ConfigError: The type is a list or mapping, and the value is not.
    """
    value = value.strip()
    if declared is str:
        return value if is_quoted(value) else quoted(home_path(value))
    is_listed = get_origin(declared) is list
    first, last = "[]" if is_listed else "{}"
    if not (value.startswith(first) and value.endswith(last)):
        example = listed(key, value) if is_listed else "{NAME: VALUE}"
        raise ConfigError(f"{key}: a {'list' if is_listed else 'mapping'} is needed, as in '{key}={example}'")
    parts = split_outside(value[1:-1], ",") if value[1:-1].strip() else []
    inner = get_args(declared)[-1]
    if is_listed:
        return f"[{','.join(inner_texts(key, part, inner) for part in parts)}]"
    named = (part.partition(":") for part in parts)
    return "{" + ",".join(f"{name}: {inner_texts(key, text, inner)}" for name, _, text in named) + "}"


def is_sweep(key: str, value: str) -> bool:
    """Return whether Hydra reads a key's value as a sweep, such as `1,2,3`: one run for each value.

    The value must be one that Hydra's grammar can parse.
    """
    return OverridesParser.create().parse_override(f"{key}={value}").is_sweep_override()


def several(key: str, value: str) -> str:
    """Return the error message for a key with several values, `a,b`, in a command without -m."""
    if key == "benchmark" or is_list(key):
        return f"{key}: several values must be a list, '{key}=[{value}]'"
    return f"{key}: several values, {value!r}, need a sweep (-m runs once for each value)"


def check_key(key: str, value: str) -> None:
    """Check the value of a key that has fixed options, a group, an enum key or a template; others pass.

    Raises:
        ConfigError: `check_option` refuses the value; the message says how the option is written here.
    """
    if key in groups():
        return check_option(key, value, group_options(key))
    if known := choices(key):
        check_option(key, value, known)


def check_option(key: str, value: str, known: list[str]) -> None:
    """Check that a value is not another tool's name of an option; of a group, nor null, a list or a number.

    The group benchmark takes a list, and recipe and benchmark take null. Most other unknown options pass,
    because Hydra reports them; those of model and data don't.

    Args:
        key: A group, an enum key or a template.
        value: Option as typed, or several with commas.
        known: The key's options.

    Raises:
        ConfigError: The message has the right spelling, or the known options.
    """
    if value == "null" and key in groups() and key not in ("recipe", "benchmark"):
        raise ConfigError(f"{key}: null is not an option (known: {', '.join(known)})")
    if "${" in value or "(" in value:
        return
    if value.startswith("[") and key in groups() and key != "benchmark":
        raise ConfigError(f"{key}: {value!r} is a list (one of {', '.join(known)})")
    for part in value.split(","):
        option = part.strip("[] '\"")
        if option in known:
            continue
        if here := option_here(key, option, known):
            raise ConfigError(f"{key}: unknown option {option!r} (here it is {key}={here})")
        if key == "adapter" and (method := peft_method(option)):
            raise ConfigError(f"{key}: unknown option {option!r} (here it is adapter.method={method})")
        if key in groups() and (not option or option.isdecimal()) and value != "[]":
            raise ConfigError(f"{key}: unknown option {option!r} (known: {', '.join(known)})")
        if key in ("model", "data") and option:
            named = ", ".join(known) or "none"
            raise ConfigError(f"{key}: unknown option {option!r} (known: {named}; {key}.path={option})")


def with_own_groups(flags: list[str]) -> list[str]:
    """Return Hydra's flags, with --config-dir for ./conf if that has group folders and no flag names another.

    The folder is given as an absolute path; the shipped conf folder is never added.
    """
    own, ours = Path("conf").resolve(), shipped("conf").resolve()
    is_named = any(flag.startswith("--config-dir=") for flag in flags)
    if not is_named and own != ours and any((own / group).is_dir() for group in groups()):
        return [f"--config-dir={own}", *flags]
    return flags
