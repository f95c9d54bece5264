"""Layers as a user names them: by the last part, or parts, of the full name."""

from collections.abc import Sequence


def ends(name: str, target: str) -> bool:
    """Whether `target` is the last part, or parts, of a layer's name."""
    return bool(name) and f".{name}".endswith(f".{target}")


def is_within(name: str, targets: Sequence[str]) -> bool:
    """Whether a layer, or one that it lies in, is named by `targets`."""
    parts = name.split(".")
    places = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(ends(place, target) for place in places for target in targets)
