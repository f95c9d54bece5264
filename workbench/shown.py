"""Removes control characters and secrets from text before it is shown; makes sentences to be translated.

Column names, file names, configuration values, templates and generated text can contain anything. Code that
shows them calls `clean`, or `masked` if only secrets matter. A leaderboard's sentences are made by `message`
from a template and values, so that its page can show them in another language.
"""

import html
import json
from collections.abc import Sequence
from functools import reduce

CONTROL = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
    **dict.fromkeys([0x2028, 0x2029], 0x2424),
}
"""Characters that move the cursor or change the text direction -> visible replacements."""

MASK = "***"

_secrets: set[str] = set()


def clean(text: str) -> str:
    """Replace secrets by `***`, control characters by visible symbols, and lone surrogates by `?`.

    Line breaks and tabs stay.
    """
    text = masked(text)
    if text.isprintable():  # then it has none of these; line breaks and tabs aren't printable either
        return text
    return text.encode("utf-8", "replace").decode("utf-8").translate(CONTROL)


def masked(text: str) -> str:
    """Return the text with *** instead of each secret that was given to `remember_secret`."""
    for secret in sorted(_secrets, key=len, reverse=True):
        for spelling in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            text = text.replace(spelling, MASK)
        text = text.replace(html.escape(secret), MASK)
    return text


def remember_secret(value: str) -> None:
    """Make `clean` and `masked` replace this value by *** for the rest of the process."""
    _secrets.add(value)


class Message(str):
    """A finished English sentence, with the template and the values that it was made from."""

    template: str
    """The English text with {name} for each value."""
    values: dict[str, str]
    """Name -> value as it is in the sentence; a value that is a `Message` can be translated itself."""


def message(template: str, /, **values: object) -> str:
    """Return a sentence as a `Message`, which remembers template and values for a translation.

    Args:
        template: English text with {name} for each value. It is the key of its translations, so it must be
            a literal in the call.
        values: Values by name. Integers get thousands separators; messages are translated too.
    """
    texts = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
    shown = {name: text if isinstance(text, Message) else str(text) for name, text in texts.items()}
    made = Message(template.format(**shown))
    made.template, made.values = template, shown
    return made


def listed(texts: Sequence[str]) -> str:
    """Join texts by commas, of which there must be at least one; messages among them stay translatable."""
    return reduce(lambda before, last: message("{before}, {last}", before=before, last=last), texts)


def message_of(error: Exception) -> str:
    """Return an error's text: its first argument if that is a `Message`, else `str(error)`."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, Message) else str(error)


def in_one_line(text: str) -> str:
    """Return a text as one line with single spaces; a text that is such a line already is returned unchanged.

    So a `Message` of one line stays a `Message`.
    """
    line = " ".join(text.split())
    return text if line == text else line
