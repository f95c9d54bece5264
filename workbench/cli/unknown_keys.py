"""Suggests keys for an unknown key, and rewrites Hydra's messages for users."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any, get_args, get_origin, get_type_hints

from workbench.cli.foreign_keys import key_here
from workbench.config import Config

NAME = "NAME"
"""Placeholder in a key for a name that the user chooses, as in `benchmarks.NAME.limit`."""

ALIKE = 0.7
"""Similarity (difflib's ratio) from which one word may be a misspelling of another."""

MOST = 3
"""Maximum number of suggested keys."""

MOST_LISTED = 20
"""Maximum number of options that a message lists."""


def known_keys(section: Any = Config, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield every dotted key of the configuration, with the name of the dataclass that has the field."""
    for name, kind in get_type_hints(section).items():
        key = f"{above}{name}"
        yield key, section.__name__
        inner = kind
        if get_origin(kind) is dict:
            inner, key = get_args(kind)[1], f"{key}.{NAME}"
        if is_dataclass(inner):
            yield from known_keys(inner, f"{key}.")


def nearest_keys(key: str) -> list[str]:
    """Return up to `MOST` keys that an unknown key may mean, the most likely first.

    First keys with similar words, then keys of the same section whose last word contains the unknown key's
    last word, then keys of other sections with the same last word.
    """
    words = key.split(".")
    known = [filled(name, words) for name, _ in known_keys()] + ["recipe"]
    similarity = {name: alike(name.split("."), words) for name in known}
    similar = [name for name in known if similarity[name] >= ALIKE]
    same_last_word = [name for name in known if name.split(".")[-1] == words[-1]]
    same_section = [name for name in known if name.split(".")[:-1] == words[:-1]]
    longer = [name for name in same_section if f"_{words[-1]}_" in f"{name}_"]
    ordered = [*sorted(similar, key=lambda name: -similarity[name]), *longer, *same_last_word]
    return list(dict.fromkeys(ordered))[:MOST]


def filled(key: str, words: Sequence[str]) -> str:
    """Replace NAME in a key by the user's word: `benchmarks.NAME.limit` -> `benchmarks.cmmlu.limit`.

    A key with another first word or number of words than the user's is returned unchanged.

    Args:
        key: A key of the configuration.
        words: The user's key, split at its dots.
    """
    known = key.split(".")
    if len(known) != len(words) or known[0] != words[0]:
        return key
    return ".".join(given if word == NAME else word for word, given in zip(known, words, strict=True))


def alike(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """Compare two keys word by word; return the lowest similarity, 0 to 1.

    Keys with different numbers of words get 0.
    """
    if len(ours) != len(theirs):
        return 0.0
    return min(SequenceMatcher(None, a, b).ratio() for a, b in zip(ours, theirs, strict=True))


def plainly(words: str, options: Callable[[str], Sequence[str]]) -> str:
    """Return an error message of Hydra or OmegaConf as one line that says what to do.

    A message that isn't recognized is returned in one line, otherwise unchanged.

    Args:
        words: The message.
        options: Function that returns the options of a group such as benchmark.
    """
    words = " ".join(words.split())
    full = re.search(r"full_key: ([\w.]+)", words)
    for noise in (" full_key:", " Config search path:", " To append to your config use"):
        before, there, after = words.partition(noise)
        words = before + (after[after.find(" Key ") :] if there and " Key " in after else "")
    if wrong := re.search(r"Could not find '(\w+)/([^']*)' Available options in '\w+': (.*)", words):
        return unknown_option(wrong[1], wrong[2], wrong[3].split())
    if missing := re.search(
        r"Could not load '(\w+)/[^']*'", words
    ):  # Hydra lists no options if several are chosen
        known = ", ".join(options(missing[1]))
        return f"{words} (known: {known})" if known else words
    if "not a subclass of SourceConfig" in words:
        return f"{words} (a source is a mapping, as in 'data.sources={{NAME: {{path: FILE}}}}')"
    entry = re.search(r"override ([\w.]+)=.* Invalid type assigned: str is not a subclass of (\w+)", words)
    if entry and (names := entry_keys(entry[2])):
        return f"{entry[1]}: an entry is a mapping with {', '.join(names)}, as in [{{{names[0]}: VALUE}}]"
    if given := re.search(r"override ([\w.]+)=\S* Invalid type assigned: str is not a subclass", words):
        section = given[1]
        first = next((key for key, _ in known_keys() if key.startswith(f"{section}.")), f"{section}.KEY")
        return f"{section}: a section, not a value (set its keys, as in {first}=...)"
    if "NoneType is not a subclass of str" in words:
        return f"{words} (YAML reads null, ~ and an empty value as null; quote a text, as in 'null')"
    if boolean := re.search(r"Key (True|False) \(bool\) is incompatible with \(str\)", words):
        first, further = ("yes", "on and true") if boolean[1] == "True" else ("no", "off and false")
        return f"{words} (YAML reads {first}, {further} as a boolean; quote a name, as in '{first}')"
    if "is not a ListConfig" in words:
        return f"{words.rstrip('.')} (a list, as in 'KEY=[a,b]')"
    if wrong := re.search(r"Invalid value '([^']*)', expected one of \[([^\]]*)\]", words):
        merging = re.search(r"merging override ([\w.]+)=", words) or full
        file = re.match(r"In '[^']*': ", words)
        if merging:
            return f"{file[0] if file else ''}{unknown_value(merging[1], wrong[1], wrong[2].split(', '))}"
    match = re.search(r"Could not override '([\w.]+)'", words) or full
    key = match[1] if match else ""
    if wrong := re.search(r"Key '([^']*)' not in '(\w+)'", words):
        problem = f"{key}: no such key" if words.startswith("Could not override") else words
        return f"{problem} ({meant(key, wrong[1], wrong[2])})"
    if unchosen := re.match(r"benchmarks\.([^.]+)", key):
        return about_benchmark(key, unchosen[1], words, options("benchmark"))
    return words


def unknown_option(group: str, option: str, known: Sequence[str]) -> str:
    """Return the message for an option that its group doesn't have, with the nearest and all options."""
    near = get_close_matches(option, known, 1, ALIKE)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{group}: unknown option {option!r} ({hint}known: {', '.join(known)})"


def unknown_value(key: str, value: str, known: Sequence[str]) -> str:
    """Return the message for a value that isn't an option of its key, with the nearest options.

    Of a long list, it says where the options are described in place of listing them.
    """
    near = get_close_matches(value.lower(), known, MOST, ALIKE)
    hints = [f"did you mean {' or '.join(near)}?"] if near else []
    if len(known) <= MOST_LISTED:
        hints.append(f"known: {', '.join(known)}")
    else:
        table = " conf/README.md has a table of them;" if key == "adapter.method" else ""
        hints.append(f"{len(known)} are known:{table} python -m workbench --keys {key} lists them")
    return f"{key}: unknown option {value!r} ({' '.join(hints)})"


def meant(key: str, word: str, owner: str) -> str:
    """Return the hint for an unknown key: similar keys, or all keys of its section.

    Args:
        key: Dotted key as the user gave it; empty: unknown.
        word: The part of it that doesn't exist.
        owner: Name of the dataclass that lacks a field `word`.
    """
    known = dict(known_keys())
    inside = [name for name, section in known.items() if section == owner]
    if names := entry_keys(owner):
        return f"{word!r}; known: {', '.join(names)}"
    words = key.split(".")
    if word not in words and (ours := key_here(word)):
        return f"here it is {ours}"
    if word not in words:  # it is inside a value, or in a recipe
        words = [*inside[0].split(".")[:-1], word]
    end = words.index(word) + 1
    near = nearest_keys(".".join(words[:end]))
    if near:
        longer = [".".join([name, *words[end:]]) for name in near]
        suggested = [name if name in known else short for name, short in zip(longer, near, strict=True)]
        return f"did you mean {' or '.join(suggested)}?"
    return f"known: {', '.join(name.rpartition('.')[2] for name in inside)}"


def entry_keys(owner: str) -> list[str]:
    """Return the keys of an entry of a list such as merge.adapters, given the name of the entry's class.

    Empty: no list of the configuration has entries of that class.

    Args:
        owner: Name of the class, such as WeightedPart.
    """
    sections = [kind for kind in get_type_hints(Config).values() if is_dataclass(kind)]
    kinds = [kind for section in sections for kind in get_type_hints(section).values()]
    entries = [get_args(kind)[0] for kind in kinds if get_origin(kind) is list]
    found = [entry for entry in entries if isinstance(entry, type) and entry.__name__ == owner]
    return list(get_type_hints(found[0])) if found and is_dataclass(found[0]) else []


def about_benchmark(key: str, name: str, words: str, known: Sequence[str]) -> str:
    """Return the message for a key of a benchmark that isn't chosen or doesn't exist.

    Args:
        key: The user's dotted key.
        name: Name of the benchmark in the key.
        words: Hydra's message, which is returned if it reports another mistake.
        known: All benchmarks.
    """
    if f"Key '{name}' is not in struct" not in words:
        return words
    if name in known:
        return f"{key}: {name} is not chosen (choose it: 'benchmark=[...,{name}]')"
    if f"benchmarks.{NAME}.{name}" in dict(known_keys()):
        return f"{key}: no such key (did you mean benchmarks.{NAME}.{name}, as in benchmarks.cmmlu.{name}?)"
    near = get_close_matches(name, known, MOST, ALIKE)
    hint = f" (did you mean {' or '.join(f'benchmarks.{close}' for close in near)}?)" if near else ""
    return f"{key}: the run has no benchmark {name!r}{hint}"
