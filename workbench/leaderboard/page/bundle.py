"""Joins the page's JavaScript modules and style sheets into one script and one style."""

import base64
import hashlib
import re
from pathlib import Path

HERE = Path(__file__).parent

IMPORT = re.compile(r'^import [^;]*? from "\./([\w-]+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ", re.MULTILINE)


def script() -> str:
    """Return main.js and all modules that it imports as one script, dependencies first.

    Modules import by name only and export at the declaration, so removing the import lines and the word
    `export` joins them. Names are unique over all modules.
    """
    ordered: list[str] = []
    _visit("main", ordered)
    bodies = [EXPORT.sub("", IMPORT.sub("", _module(name))).strip() for name in ordered]
    return '"use strict";\n(() => {\n' + "\n\n".join(bodies) + "\n})();\n"


def _visit(name: str, ordered: list[str]) -> None:
    """Append to `ordered` the modules that a module imports, then its own name, each only once."""
    for needed in IMPORT.findall(_module(name)):
        if needed not in ordered:
            _visit(needed, ordered)
    if name not in ordered:
        ordered.append(name)


def _module(name: str) -> str:
    return (HERE / "js" / f"{name}.js").read_text(encoding="utf-8")


def style() -> str:
    """Return all style sheets as one text, in the order of their file names."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((HERE / "css").glob("*.css")))


def policy_hash(text: str) -> str:
    """Return the hash by which the page's Content-Security-Policy allows a script or a style."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
