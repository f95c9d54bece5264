"""What was meant by a key that there isn't, and what Hydra says of it in a user's words."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any, get_args, get_origin, get_type_hints

from workbench.config import Config

NAME = "NAME"
"""In a key, a name that the user gives, as that of a benchmark."""

ALIKE = 0.7
"""Two words that are as alike as this (difflib's ratio) may be one word mistyped."""

MOST = 3
"""Keys that are proposed."""


def known_keys(section: Any = Config, above: str = "") -> Iterator[tuple[str, str]]:
    """Every dotted key that there is, with the class that it is a field of."""
    for name, kind in get_type_hints(section).items():
        key = f"{above}{name}"
        yield key, section.__name__
        inner = kind
        if get_origin(kind) is dict:
            inner, key = get_args(kind)[1], f"{key}.{NAME}"
        if is_dataclass(inner):
            yield from known_keys(inner, f"{key}.")


def nearest_keys(key: str) -> list[str]:
    """The keys that may be meant by one that there isn't, the likeliest first.

    One of like words is, one whose last word holds this one's, and one of the same last word elsewhere.
    """
    words = key.split(".")
    known = [filled(found, words) for found, _ in known_keys()] + ["recipe"]
    likeness = {found: alike(found.split("."), words) for found in known}
    close = [found for found in known if likeness[found] >= ALIKE]
    elsewhere = [found for found in known if found.split(".")[-1] == words[-1]]
    beside = [found for found in known if found.split(".")[:-1] == words[:-1]]
    longer = [found for found in beside if f"_{words[-1]}_" in f"{found}_"]
    ordered = [*sorted(close, key=lambda found: -likeness[found]), *longer, *elsewhere]
    return list(dict.fromkeys(ordered))[:MOST]


def filled(key: str, words: Sequence[str]) -> str:
    """A known key with the user's own names in it."""
    parts = key.split(".")
    return ".".join(
        words[place] if part == NAME and place < len(words) else part for place, part in enumerate(parts)
    )


def alike(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """How alike the most different two words of two keys are, from 0 to 1; 0: one has more words."""
    if len(ours) != len(theirs):
        return 0.0
    return min(SequenceMatcher(None, a, b).ratio() for a, b in zip(ours, theirs, strict=True))


def plainly(words: str, options: Callable[[str], Sequence[str]]) -> str:
    """A message of Hydra's or OmegaConf's as one line that says the way out.

    Args:
        words: The message.
        options: Gives the names that can be chosen of a group, such as benchmark.
    """
    words = " ".join(words.split())
    full = re.search(r"full_key: ([\w.]+)", words)
    for noise in (" full_key:", " Config search path:", " To append to your config use"):
        before, there, after = words.partition(noise)
        words = before + (after[after.find(" Key ") :] if there and " Key " in after else "")
    if missing := re.search(r"Could not load '(\w+)/[^']*'", words):  # of a list of options Hydra names none
        known = ", ".join(options(missing[1]))
        return f"{words} (known: {known})" if known else words
    if "not a subclass of SourceConfig" in words:
        return f"{words} (a source is given whole, as in 'data.sources={{NAME: {{path: FILE}}}}')"
    if given := re.search(r"override ([\w.]+)=\S* Invalid type assigned: str is not a subclass", words):
        section = given[1]
        first = next(key for key, _ in known_keys() if key.startswith(f"{section}."))
        return f"{section}: a section, not a value (set its keys, as in {first}=...)"
    if "NoneType is not a subclass of str" in words:
        return f"{words} (YAML reads null, ~ and an empty place as no value; a text is in quotes, as 'null')"
    if truth := re.search(r"Key (True|False) \(bool\) is incompatible with \(str\)", words):
        first, others = ("yes", "on and true") if truth[1] == "True" else ("no", "off and false")
        return f"{words} (YAML reads {first}, {others} as a truth value; a name is in quotes, as '{first}')"
    if "is not a ListConfig" in words:
        return f"{words.rstrip('.')} (a list, as in 'KEY=[a,b]')"
    found = re.search(r"Could not override '([\w.]+)'", words) or full
    key = found[1] if found else ""
    if wrong := re.search(r"Key '([^']*)' not in '(\w+)'", words):
        return f"{words} ({meant(key, wrong[1], wrong[2])})"
    if unchosen := re.match(r"benchmarks\.([^.]+)", key):
        return words + about_benchmark(unchosen[1], words, options("benchmark"))
    return words


def meant(key: str, word: str, owner: str) -> str:
    """What to say of a `word` that is no field of the class `owner`; `key` is what was given, or empty."""
    known = dict(known_keys())
    inside = [found for found, section in known.items() if section == owner]
    words = key.split(".")
    if word not in words:  # it was given inside a value, or by a recipe
        words = [*inside[0].split(".")[:-1], word]
    place = words.index(word) + 1
    near = nearest_keys(".".join(words[:place]))
    if near:
        whole = [".".join([each, *words[place:]]) for each in near]
        either = [each if each in known else short for each, short in zip(whole, near, strict=True)]
        return f"did you mean {' or '.join(either)}?"
    return f"known: {', '.join(found.rpartition('.')[2] for found in inside)}"


def about_benchmark(name: str, words: str, known: Sequence[str]) -> str:
    """What to add where a key is of a benchmark that the run doesn't have."""
    if f"Key '{name}' is not in struct" not in words:
        return ""
    if name in known:
        return f" (it is not chosen: 'benchmark=[...,{name}]')"
    near = get_close_matches(name, known, MOST, ALIKE)
    return f" (did you mean {' or '.join(f'benchmarks.{each}' for each in near)}?)" if near else ""
