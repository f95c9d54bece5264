"""Jinja templates and expressions of benchmarks, in a sandbox: a configuration can't run code of its own."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, meta
from jinja2.environment import Template, TemplateExpression
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workbench.errors import ConfigError, DataError
from workbench.evaluation.files import Row

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
)
_ENVIRONMENT.filters["regex_replace"] = lambda text, pattern, new: re.sub(pattern, new, text)
_ENVIRONMENT.filters["positions"] = lambda values, wanted: [i for i, v in enumerate(values) if v == wanted]


def render(template: str, values: Mapping[str, Any], row: Row) -> str:
    """The text of a template over a row's columns and other `values`.

    Raises:
        DataError: the template names a column that the row doesn't have.
    """
    if "{" not in template and "\r" not in template:
        return template  # nothing to fill in
    try:
        return _template(template).render(_scope(values, row))
    except _FAILURES as error:
        raise DataError(_explain(template, error, row)) from error


def evaluate(expression: str, values: Mapping[str, Any], row: Row) -> Any:
    """The value of an expression over a row's columns and other `values`: a list, a number, a text."""
    try:
        value = _expression(expression)(_scope(values, row))
        if isinstance(value, StrictUndefined):
            str(value)
        return value
    except _FAILURES as error:
        raise DataError(_explain(expression, error, row)) from error


@lru_cache(maxsize=1024)
def names(template: str) -> frozenset[str]:
    """The variables that a template reads."""
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(template)))


def check(text: str, key: str, expression: bool = False) -> None:
    """Refuse a template or expression that doesn't parse.

    Raises:
        ConfigError: with the key that it stands under.
    """
    try:
        _expression(text) if expression else _template(text)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{key}: {text!r} does not parse ({error.message})") from error


_FAILURES = (
    *(UndefinedError, SecurityError, re.error),
    *(TypeError, ValueError, LookupError, AttributeError, ArithmeticError),
)


def _scope(values: Mapping[str, Any], row: Row) -> dict[str, Any]:
    return {**_clashing(row), **row.values, "row": row.values, **values}


def _clashing(row: Row) -> dict[str, StrictUndefined]:
    """Names that several levels of an unfolded row have: refused where a template uses them."""
    return {
        name: StrictUndefined(f"{name!r} stands at several levels, use {told}")
        for name, told in row.clashes.items()
    }


def _explain(text: str, error: Exception, row: Row) -> str:
    columns = ", ".join(name or "''" for name in row.values)
    return f"{row.where}: {text!r} cannot be rendered: {error} (columns: {columns})"


@lru_cache(maxsize=1024)
def _template(text: str) -> Template:
    return _ENVIRONMENT.from_string(text)


@lru_cache(maxsize=1024)
def _expression(text: str) -> TemplateExpression:
    return _ENVIRONMENT.compile_expression(text, undefined_to_none=False)
