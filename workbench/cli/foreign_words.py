"""Translates words typed for other tools into this program's keys, for error messages."""

import re
import shlex
from difflib import get_close_matches

from workbench.cli.foreign_keys import (
    LIST_WORDS,
    STAGES,
    converted,
    is_family,
    key_here,
    no_such_stage,
    obstacle,
    option_here,
    remark,
)
from workbench.cli.key_types import Kind, all_keys, choices, groups, is_list, kind_of
from workbench.cli.unknown_keys import ALIKE, MOST, nearest_keys
from workbench.cli.yaml_files.recipes import recipe_files
from workbench.shipped import options

HERE = "here it is "
"""Start of a hint that says how to write a setting here; other hints say that this isn't possible."""


def way(name: str, value: str) -> str:
    """Return a hint for an error message: how to write a setting here, as `here it is adapter.rank=8`.

    Without a counterpart, the hint says why, or names similar keys.

    Args:
        name: Key of this program or of another tool, perhaps misspelled.
        value: Its value; empty: not given.
    """
    if name in groups() or kind_of(name) not in (None, Kind.section):
        return f"{HERE}{assignment(name, value)}"
    if name == "model_args" and value:
        return f"{HERE}{' '.join(model_arguments(value))}"
    if name == "stage" and (reason := no_such_stage(value)):
        return reason
    if reason := obstacle(name, value):
        return f"no counterpart here: {reason}"
    if name == "stage" and value in STAGES:
        return f"{HERE}{STAGES[value]}"
    if ours := key_here(name):
        note = remark(name, value, ours) if value else None
        return f"{HERE}{assignment(ours, converted(name, value))}{f'; {note}' if note else ''}"
    if near := nearest_keys(name) or nearest_last_words(name):
        return f"values are given as KEY=VALUE; did you mean {' or '.join(f'{key}=...' for key in near)}?"
    return "values are given as KEY=VALUE, as in train.max_steps=20; --help says more"


def nearest_last_words(name: str) -> list[str]:
    """Return up to `MOST` keys whose last word is similar: train.learning_rate for `learning_rat`."""
    keys = {key.rpartition(".")[2]: key for key in reversed(list(all_keys()))}
    return [keys[word] for word in get_close_matches(name.rpartition(".")[2], keys, MOST, ALIKE)]


def model_arguments(value: str) -> list[str]:
    """Return the value `a=1,b=2` of lm-evaluation-harness's --model_args as assignments of our keys.

    An unknown name stays as it is.
    """
    pairs = (word.partition("=") for word in value.split(","))
    return [assignment(key_here(name) or name, argument) for name, _, argument in pairs]


def assignment(ours: str, value: str) -> str:
    """Return KEY=VALUE with another tool's value in our spelling, in quotes if the shell needs them.

    Args:
        ours: Our key, or our KEY=VALUE, which is returned unchanged.
        value: The other tool's value; empty: the result is `KEY=...`.
    """
    if "=" in ours:
        return ours
    value = value or "..."
    if ours == "adapter" and (method := peft_method(value)):
        ours, value = "adapter.method", method
    if ours == "benchmark" or is_list(ours):
        value = listed(ours, benchmark_names(value) if ours == "benchmark" else value)
    elif known := group_options(ours) if ours in groups() else choices(ours):
        value = option_here(ours, value, known) or own_template(ours, value, known)
    word = f"{ours}={value}"
    return shlex.quote(word) if re.search(r"[\s\[\](){}$*?;&|<>#!'\"]", word) else word


def peft_method(value: str) -> str | None:
    """Return the `adapter.method` that a value of `adapter` names; None: it is a group option or unknown."""
    is_known = option_here("adapter", value, options("adapter")) is not None
    return None if is_known else option_here("adapter.method", value, choices("adapter.method"))


def listed(ours: str, value: str) -> str:
    """Return a value in brackets for a key that takes a list, and translated: `all` -> `[all-linear]`.

    A value that starts with a bracket is returned unchanged.
    """
    if value.startswith("["):
        return value
    return f"[{LIST_WORDS.get((ours, value), value)}]"


def benchmark_names(value: str) -> str:
    """Return names of benchmarks without LLaMA-Factory's split: `mmlu_test,cmmlu` -> `mmlu,cmmlu`.

    Brackets around the names stay.
    """
    known = options("benchmark")
    names = [name.strip() for name in value.strip("[]").split(",")]
    stems = [re.sub(r"_(test|validation|val|dev)$", "", name) for name in names]
    joined = ",".join(
        stem if stem in known and name not in known else name for name, stem in zip(names, stems, strict=True)
    )
    return f"[{joined}]" if value.startswith("[") else joined


def own_template(ours: str, value: str, known: list[str]) -> str:
    """Return `auto` if `ours` is data.template and the value names a model family; else the value.

    Args:
        ours: Our key.
        value: The other tool's value.
        known: The options of our key.
    """
    return "auto" if ours == "data.template" and value not in known and is_family(value) else value


def group_options(group: str) -> list[str]:
    """Return the options of a group; those of the group `recipe` are the recipes' names."""
    return sorted(recipe_files()) if group == "recipe" else options(group)
