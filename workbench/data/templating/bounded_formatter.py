"""Limits the length of what `str.format` returns in templates."""

from typing import Any

from jinja2.sandbox import SandboxedFormatter
from markupsafe import EscapeFormatter

from workbench.data.templating import template_sizes
from workbench.data.templating.render_budget import bound, size

RESULT = "a text with the method 'format'"


class BoundedFormatter(SandboxedFormatter):
    """Formatter of `str.format` in templates; it checks the size of each field."""

    total = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        """Format a field."""
        self._env.check_written(value)  # type: ignore[attr-defined]
        bound(template_sizes.field_width(format_spec) + size(value), RESULT)
        text = super().format_field(value, format_spec)
        self.total += len(text)
        bound(self.total, RESULT)
        return text

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """Convert a value with `!r`, `!s` or `!a`."""
        bound(size(value), RESULT)
        return super().convert_field(value, conversion)


class BoundedEscapeFormatter(BoundedFormatter, EscapeFormatter):
    """Formatter of strings that are marked as safe; it escapes HTML in the fields."""
