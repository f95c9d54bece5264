"""Checks the size of a YAML file, and of its values with aliases expanded, before it is loaded."""

from pathlib import Path

import yaml

from workbench.errors import ConfigError
from workbench.files import check_readable

MOST_VALUES = 1_000_000
"""Maximum values in one YAML file; ours have some hundreds."""

DEEPEST = 100
"""Maximum nesting of mappings and lists."""

LONGEST_NUMBER = 400
"""Maximum characters of an integer; Python can't print one of more than 4,300 digits."""

MOST_BYTES = 1 << 20
"""Maximum bytes of one YAML file; ours have some thousands."""


INTEGER = "tag:yaml.org,2002:int"
"""Tag that PyYAML gives to integers."""


def check_unfolded(path: Path) -> None:
    """Check a YAML file's bytes, and the depth and number of its values with all aliases expanded.

    Invalid YAML passes, because the loader reports it.

    Raises:
        ConfigError: A limit is exceeded, or the path is not a regular file; the message names the file.
    """
    check_readable(path, MOST_BYTES)
    text = path.read_text("utf-8", errors="replace")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        num_values = unfolded(root, {}, 0) if root is not None else 0
    except yaml.YAMLError:
        return  # the loader reports it
    except OverflowError as error:
        raise ConfigError(f"{path}: a number of {error} characters (at most {LONGEST_NUMBER})") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply (at most {DEEPEST} lists and mappings)") from error
    if num_values > MOST_VALUES:
        raise ConfigError(f"{path}: expands to {num_values:,} values (at most {MOST_VALUES:,})")


def unfolded(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return the number of values in a YAML node, itself included, with its aliases expanded.

    Args:
        node: The node.
        known: Id of a node -> its number of values, filled here; empty at the start.
        depth: Depth of the node below the root, which has 0.

    Raises:
        RecursionError: The node is nested too deeply.
        OverflowError: An integer is too long; the message is its number of characters.
    """
    if depth > DEEPEST:
        raise RecursionError
    if node.tag == INTEGER and len(node.value) > LONGEST_NUMBER:
        raise OverflowError(f"{len(node.value):,}")
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(unfolded(child, known, depth + 1) for child in children)
    return known[id(node)]
