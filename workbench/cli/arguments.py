"""What is typed after `python -m workbench`, made ready for Hydra."""

import sys
from pathlib import Path

from workbench.cli.shipped import shipped


def use_own_groups() -> None:
    """Let Hydra look for benchmarks and other options in ./conf, too, unless --config-dir names a folder."""
    own, ours = Path("conf").resolve(), shipped("conf").resolve()
    named = any(word.startswith(("--config-dir", "-cd")) for word in sys.argv)
    if not named and own != ours and any((own / group.name).is_dir() for group in ours.iterdir()):
        sys.argv[1:1] = ["--config-dir", str(own)]
