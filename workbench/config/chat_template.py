"""`data.template`: the name of a chat template, or a file that holds one."""

from difflib import get_close_matches
from enum import Enum
from pathlib import Path

from workbench.errors import ConfigError

Template = Enum(
    "Template",
    {
        "auto": "auto",
        "alpaca": "alpaca",
        "alpaca-zh": "alpaca-zh",
        "chatml": "chatml",
        "open-llama": "open-llama",
        "plain": "plain",
    },
)
"""How turns become text; auto takes the tokenizer's own chat template where it has one."""

FILE_ENDINGS = (".jinja", ".jinja2", ".j2")


def is_template_file(value: str) -> bool:
    """Whether a value of `data.template` names a file: none of the names, and ends in .jinja or exists."""
    return value not in Template.__members__ and (value.endswith(FILE_ENDINGS) or Path(value).is_file())


def check_template(key: str, value: str) -> None:
    """Refuse a value that is neither a name nor a file.

    Raises:
        ConfigError: with the names that are like it.
    """
    if value in Template.__members__ or is_template_file(value):
        return
    known = ", ".join(Template.__members__)
    near = get_close_matches(value, list(Template.__members__), n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"{key}: unknown template {value!r} ({meant}known: {known}; or a file NAME.jinja)")
