"""Matches layers by the last part or parts of their full names, as users write them."""

from collections.abc import Sequence


def ends(name: str, target: str) -> bool:
    """Return whether a layer's full name ends in `target`, compared by whole parts between dots."""
    return bool(name) and f".{name}".endswith(f".{target}")


def is_within(name: str, targets: Sequence[str]) -> bool:
    """Return whether a layer, or a module around it, has a name that ends in one of `targets`."""
    parts = name.split(".")
    prefixes = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(ends(prefix, target) for prefix in prefixes for target in targets)
