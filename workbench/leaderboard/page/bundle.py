"""Joins the page's own JavaScript modules and style sheets into one script and one style."""

import base64
import hashlib
import re
from pathlib import Path

HERE = Path(__file__).parent

IMPORT = re.compile(r'^import [^;]*? from "\./([\w-]+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ", re.MULTILINE)


def script() -> str:
    """Return main.js and all modules that it imports as one script, each after those that it needs.

    Modules import by name only and export where they declare, so that joining them is removing both words;
    names are unique over all modules.
    """
    ordered: list[str] = []
    _visit("main", ordered)
    bodies = [EXPORT.sub("", IMPORT.sub("", _module(name))).strip() for name in ordered]
    return '"use strict";\n(() => {\n' + "\n\n".join(bodies) + "\n})();\n"


def _visit(name: str, ordered: list[str]) -> None:
    """Append the modules that a module needs, then the module, each once."""
    for needed in IMPORT.findall(_module(name)):
        if needed not in ordered:
            _visit(needed, ordered)
    if name not in ordered:
        ordered.append(name)


def _module(name: str) -> str:
    return (HERE / "js" / f"{name}.js").read_text(encoding="utf-8")


def style() -> str:
    """Return all style sheets in the order of their names."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((HERE / "css").glob("*.css")))


def policy_hash(text: str) -> str:
    """Return the hash by which the page's Content-Security-Policy allows a script or a style."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
