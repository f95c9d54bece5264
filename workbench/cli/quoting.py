"""Values as the shell hands them over, put into quotes where Hydra's grammar would read something else."""

import re
from collections.abc import Callable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import grammar_parser
from omegaconf.errors import GrammarParseError

QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
CLOSING = {"(": ")", "[": "]", "{": "}"}


def quoted(text: str) -> str:
    """The text in single quotes, which Hydra and OmegaConf read back as exactly this text.

    A `${` that begins no interpolation is escaped.
    """
    if "${" in text and not is_interpolation(text):
        text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", text)
    trailing = len(text) - len(text.rstrip("\\"))
    return f"'{text}{text[len(text) - trailing :]}'"


def is_interpolation(text: str) -> bool:
    """Whether OmegaConf can read the `${...}` of a text."""
    try:
        grammar_parser.parse(text)
    except GrammarParseError:
        return False
    return True


def is_quoted(value: str) -> bool:
    """Whether a value is one quoted text of Hydra's grammar."""
    return QUOTED.fullmatch(value) is not None


def parses(value: str) -> bool:
    """Whether Hydra's grammar can read a value."""
    try:
        OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return True


def text_value(value: str) -> str:
    """A text for Hydra: null, nothing and what is quoted stay, everything else is quoted."""
    return value if value in ("", "null") or is_quoted(value) else quoted(value)


def text_sweep(value: str, convert: Callable[[str], str] = text_value) -> str:
    """Several texts for a sweep, parted by commas outside quotes and brackets, or by `choice(a,b)`."""
    if chosen := re.fullmatch(r"choice\((.*)\)", value, re.DOTALL):
        return text_sweep(chosen[1], convert)  # Hydra loses the quotes inside choice(...)
    if re.match(r"(glob|range|interval|shuffle|sort|tag)\(", value) and parses(value):
        return value
    return ",".join(convert(part.strip()) for part in split_outside(value, ","))


def split_outside(value: str, separator: str) -> list[str]:
    """The parts of a value between separators that stand outside quotes and brackets."""
    parts, start, open_brackets, position = [], 0, [], 0
    while position < len(value):
        letter = value[position]
        if not value[start:position].strip() and (text := QUOTED.match(value, position)):
            position = text.end()
            continue
        if letter in CLOSING:
            open_brackets.append(CLOSING[letter])
        elif open_brackets and letter == open_brackets[-1]:
            open_brackets.pop()
        elif letter == separator and not open_brackets:
            parts.append(value[start:position])
            start = position + 1
        position += 1
    if open_brackets:  # a bracket that nothing closes is a letter like any other
        return value.split(separator)
    return [*parts, value[start:]]


def container(value: str) -> str:
    """A list or mapping for Hydra, where the bare words that its grammar can't read are quoted."""
    value = value.strip()
    if value[:1] not in ("[", "{") or not value.endswith(CLOSING[value[0]]):
        return value if not value or parses(value) else quoted(value)
    if not value[1:-1].strip():
        return value
    parts = split_outside(value[1:-1], ",")
    if value[0] == "[":
        return f"[{','.join(map(container, parts))}]"
    return "{" + ",".join(map(pair, parts)) + "}"


def pair(text: str) -> str:
    """`key: value` of a mapping, the value as `container` writes it."""
    key, colon, value = text.partition(":")
    return f"{key}: {container(value)}" if colon else text
