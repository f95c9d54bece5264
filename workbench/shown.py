"""Removes control characters and secrets from text before it is shown on a terminal, in a log or on a page.

Column names, file names, configuration values, templates and generated text can contain anything. Code that
shows them calls `clean`, or `masked` if only secrets matter.
"""

import html
import json

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
    """Return a text without control characters, secrets and lone surrogates."""
    return masked(text).encode("utf-8", "replace").decode("utf-8").translate(CONTROL)


def masked(text: str) -> str:
    """Return the text with *** instead of each secret from the environment."""
    for secret in sorted(_secrets, key=len, reverse=True):
        for spelling in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            text = text.replace(spelling, MASK)
        text = text.replace(html.escape(secret), MASK)
    return text


def remember_secret(value: str) -> None:
    """Mask this value as *** from now on."""
    _secrets.add(value)
