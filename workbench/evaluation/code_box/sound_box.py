"""Finds the box in which this process runs programs, after attacking it once."""

import atexit
from functools import cache

from workbench.errors import ConfigError
from workbench.evaluation.code_box.attacks import weakness
from workbench.evaluation.code_box.box import Box
from workbench.evaluation.code_box.commands import Limits, enclosures
from workbench.trust import is_trusted


def check_box(key: str, metric: str) -> None:
    """Check that programs may run (`trust_code`), and that there is a sound box for them.

    Args:
        key: Configuration key that names the metric.
        metric: Name of the metric that runs programs.

    Raises:
        ConfigError: Code isn't trusted, or no box holds off the attacks.
    """
    if not is_trusted():
        raise ConfigError(
            f"{key}: {metric!r} runs the programs that a model writes, in a box without network and files "
            "(trust_code=true on the command line runs them)"
        )
    sound_box(f"{key}: {metric!r}")


def sound_box(runner: str = "pass@1") -> Box:
    """Return the box of this process, which has held off the attacks.

    Args:
        runner: What runs programs, for the message.

    Raises:
        ConfigError: No box holds off the attacks.
    """
    box = _search()
    if isinstance(box, str):
        raise ConfigError(
            f"{runner} runs programs in a box only, and none is sound here: {box} (use a Linux that lets you "
            "make namespaces or has bubblewrap, or leave the metric out)"
        )
    return box


@cache
def _search() -> Box | str:
    """Return the first box that holds off the attacks, or what is wrong with each."""
    limits, reasons = Limits(), []
    for enclosure in enclosures(limits):
        box = Box(enclosure, limits)
        reason = weakness(box)
        if not reason:
            atexit.register(box.close)
            return box
        box.close()
        reasons.append(f"{enclosure.name}: {reason}")
    return "; ".join(reasons) or "this system has no namespaces"
