"""A YAML file is held against what it would unfold to, before anything unfolds it."""

import re
from pathlib import Path

import yaml

from workbench.errors import ConfigError

MOST_VALUES = 1_000_000
"""Values of one YAML file; the largest of ours has some hundreds."""

DEEPEST = 100
"""Mappings and lists inside each other."""

MAY_UNFOLD = re.compile(r"&[\w-]+")
"""An anchor, which aliases can repeat."""


def check_unfolded(path: Path) -> None:
    """Refuse a YAML file whose aliases unfold to too many values, or that is nested too deep.

    Raises:
        ConfigError: names the file.
    """
    text = path.read_text("utf-8", errors="replace")
    if (
        not MAY_UNFOLD.search(text)
        and max(text.count("["), text.count("{")) < DEEPEST
        and len(text) < 1 << 20
    ):
        return
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        number = unfolded(root, {}, 0) if root is not None else 0
    except yaml.YAMLError:
        return  # whoever loads it says what is wrong
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deep (at most {DEEPEST} lists and mappings)") from error
    if number > MOST_VALUES:
        raise ConfigError(f"{path}: unfolds to {number:,} values (at most {MOST_VALUES:,})")


def unfolded(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values a node stands for, those of its aliases included."""
    if depth > DEEPEST:
        raise RecursionError
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(unfolded(each, known, depth + 1) for each in inner)
    return known[id(node)]
