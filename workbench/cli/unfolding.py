"""A YAML file is held against its size and what it would unfold to, before anything unfolds it."""

from pathlib import Path

import yaml

from workbench.errors import ConfigError
from workbench.files import check_readable

MOST_VALUES = 1_000_000
"""Values of one YAML file; the largest of ours has some hundreds."""

DEEPEST = 100
"""Mappings and lists inside each other."""

LONGEST_NUMBER = 400
"""Characters of an integer; Python writes none of more than 4,300 digits."""

MOST_BYTES = 1 << 20
"""Of one YAML file; the largest of ours has some thousands."""


INTEGER = "tag:yaml.org,2002:int"
"""Of a YAML node."""


def check_unfolded(path: Path) -> None:
    """Refuse a YAML file whose values are too many, too long or nested too deep, and what is no file.

    Raises:
        ConfigError: names the file.
    """
    check_readable(path, MOST_BYTES)
    text = path.read_text("utf-8", errors="replace")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        number = unfolded(root, {}, 0) if root is not None else 0
    except yaml.YAMLError:
        return  # whoever loads it says what is wrong
    except OverflowError as error:
        raise ConfigError(f"{path}: a number of {error} characters (at most {LONGEST_NUMBER})") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deep (at most {DEEPEST} lists and mappings)") from error
    if number > MOST_VALUES:
        raise ConfigError(f"{path}: unfolds to {number:,} values (at most {MOST_VALUES:,})")


def unfolded(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values a node stands for, those of its aliases included.

    Raises:
        RecursionError: it is nested too deep.
        OverflowError: it holds an integer of this many characters.
    """
    if depth > DEEPEST:
        raise RecursionError
    if node.tag == INTEGER and len(node.value) > LONGEST_NUMBER:
        raise OverflowError(f"{len(node.value):,}")
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(unfolded(each, known, depth + 1) for each in inner)
    return known[id(node)]
