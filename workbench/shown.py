"""Text of others on its way to a terminal, a log or a page: no control characters, no secrets.

Column names, file names, configuration values, templates and what models generate can hold anything. Whatever
shows them calls `clean`, or `masked` where only secrets matter.
"""

import html
import json

CONTROL = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
    **dict.fromkeys([0x2028, 0x2029], 0x2424),
}
"""Characters that move the cursor or turn the direction of writing -> their pictures."""

MASK = "***"

_secrets: set[str] = set()


def clean(text: str) -> str:
    """A text that any terminal and file can hold: no control characters, no secrets, no lone surrogates."""
    return masked(text).encode("utf-8", "replace").decode("utf-8").translate(CONTROL)


def masked(text: str) -> str:
    """The text with *** instead of each value that came from the environment."""
    for secret in sorted(_secrets, key=len, reverse=True):
        for written in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            text = text.replace(written, MASK)
        text = text.replace(html.escape(secret), MASK)
    return text


def remember_secret(value: str) -> None:
    """Show *** instead of this value from now on."""
    _secrets.add(value)
