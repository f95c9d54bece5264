"""Limits the length of texts that `str.format` returns in templates."""

from typing import Any

from jinja2.sandbox import SandboxedFormatter
from markupsafe import EscapeFormatter

from workbench.data.templating import template_sizes
from workbench.data.templating.render_budget import bound, size

RESULT = "a text with the method 'format'"


class BoundedFormatter(SandboxedFormatter):
    """Replaces `str.format` in templates; checks the length of each field before it is formatted.

    A formatter formats one text: it adds up the fields in `total`.
    """

    total = 0
    """Characters of all fields so far."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        """Format a value as `format_spec` says, and count the characters of the result.

        Raises:
            BoundError: The field, or all fields together, are too long.
            NullError, FunctionError, ContainerError: As for `check_written`, if the environment refuses null.
        """
        self._env.check_written(value)  # type: ignore[attr-defined]
        bound(template_sizes.field_width(format_spec) + size(value), RESULT)
        text = super().format_field(value, format_spec)
        self.total += len(text)
        bound(self.total, RESULT)
        return text

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """Convert a value with `!r`, `!s` or `!a`; raise a BoundError if the value is too long."""
        bound(size(value), RESULT)
        return super().convert_field(value, conversion)


class BoundedEscapeFormatter(BoundedFormatter, EscapeFormatter):
    """Replaces the method `format` of strings marked as safe HTML (`Markup`): HTML in fields is escaped."""
