"""Imports each module of a package first, in a process of its own: import_orders.py PACKAGE [MODULE...]

Prints the modules that can't be the first import, and why, as JSON. Other packages are imported once, and
each process is a fork.
"""

import contextlib
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

OPTIONAL = ("lm_eval",)
"""Packages of extras, without which their modules can't be imported."""


def modules(package: Path) -> list[str]:
    """The names of all modules of a package; its commands are left out."""
    files = (file for file in sorted(package.rglob("*.py")) if file.name != "__main__.py")
    names = (".".join(file.relative_to(package.parent).with_suffix("").parts) for file in files)
    return [name.removesuffix(".__init__") for name in names]


def in_fork(name: str, result: Path) -> str:
    """Import a module in a process of its own; return what that wrote: modules, or why it can't be done."""
    process = os.fork()
    if not process:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            is_optional = str(error.name).partition(".")[0] in OPTIONAL
            result.write_text("" if is_optional else f"{type(error).__name__}: {error}")
        except BaseException as error:
            result.write_text(f"{type(error).__name__}: {error}")
        else:
            result.write_text(json.dumps([*sys.modules]))
        os._exit(0)
    status = os.waitpid(process, 0)[1]
    return result.read_text() if not status else f"exit status {status}"


def main(package: Path, chosen: list[str]) -> dict[str, object]:
    """The names of the imported modules, and why some of them can't be imported."""
    sys.path.insert(0, str(package.parent))
    chosen, problems = chosen or modules(package), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            found = in_fork(name, Path(folder) / "result")
            if found and found[0] != "[":
                problems[name] = found
                continue
            others = [other for other in json.loads(found or "[]") if other.split(".")[0] != package.name]
            for other in others:
                with contextlib.suppress(Exception):  # a module that imports nothing but makes itself
                    other in sys.modules or importlib.import_module(other)
    return {"modules": chosen, "problems": problems}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
