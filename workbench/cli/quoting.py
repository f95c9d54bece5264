"""Quotes values from the shell, so that Hydra's grammar reads them as the texts that the user typed."""

import re
from collections.abc import Callable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import grammar_parser
from omegaconf.errors import GrammarParseError

QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
CLOSING = {"(": ")", "[": "]", "{": "}"}


def quoted(text: str) -> str:
    """Put a text in single quotes, escaped so that Hydra and OmegaConf read the same text back.

    A `${` stays if OmegaConf can parse the text as an interpolation, and else is escaped.
    """
    if "${" in text and not is_interpolation(text):
        text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    trailing = len(text) - len(text.rstrip("\\"))
    return f"'{text}{text[len(text) - trailing :]}'"


def is_interpolation(text: str) -> bool:
    """Return whether OmegaConf's grammar can parse a text; True also without `${`, False for an empty one."""
    try:
        grammar_parser.parse(text)
    except GrammarParseError:
        return False
    return True


def is_quoted(value: str) -> bool:
    """Return whether a value is one quoted text in Hydra's grammar."""
    return QUOTED.fullmatch(value) is not None


def parses(value: str) -> bool:
    """Return whether Hydra's grammar can parse a value."""
    try:
        OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return True


def text_value(value: str) -> str:
    """Quote a text for Hydra, unless it is empty, null or quoted already."""
    return value if value in ("", "null") or is_quoted(value) else quoted(value)


def text_sweep(value: str, convert: Callable[[str], str] = text_value) -> str:
    """Convert each text of a sweep, `a,b` or `choice(a,b)`, and join the results by commas.

    Commas inside quotes and brackets don't separate. A call of another function of Hydra, such as `glob(*)`,
    is returned unchanged.
    """
    if chosen := re.fullmatch(r"choice\((.*)\)", value, re.DOTALL):
        return text_sweep(chosen[1], convert)  # Hydra loses the quotes inside choice(...)
    if re.match(r"(glob|range|interval|shuffle|sort|tag)\(", value) and parses(value):
        return value
    return ",".join(convert(part.strip()) for part in split_outside(value, ","))


def split_outside(value: str, separator: str) -> list[str]:
    """Split a value at a separator outside quotes and brackets: `a,[b,c]` at `,` into `a` and `[b,c]`.

    With a bracket that isn't closed, it is split at every separator.
    """
    parts, start, open_brackets, position = [], 0, [], 0
    while position < len(value):
        character = value[position]
        if not value[start:position].strip() and (text := QUOTED.match(value, position)):
            position = text.end()
            continue
        if character in CLOSING:
            open_brackets.append(CLOSING[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
        elif character == separator and not open_brackets:
            parts.append(value[start:position])
            start = position + 1
        position += 1
    if open_brackets:  # an unclosed bracket is an ordinary character
        return value.split(separator)
    return [*parts, value[start:]]


def container(value: str) -> str:
    """Quote those words of a list or mapping that Hydra can't parse: `[a&b,c]` becomes `['a&b',c]`.

    Any other value is quoted as a whole if Hydra can't parse it.
    """
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
    """Quote the value in a mapping's entry `key: value` where Hydra can't parse it; the key stays."""
    key, colon, value = text.partition(":")
    return f"{key}: {container(value)}" if colon else text
