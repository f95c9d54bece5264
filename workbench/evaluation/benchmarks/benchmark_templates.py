"""Jinja templates and expressions of benchmarks, in a sandbox: a configuration can't run code of its own."""

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta, nodes
from jinja2.runtime import Undefined

from workbench.data.templating.render import CompiledTemplate, RenderingError
from workbench.data.templating.sandbox import BoundedEnvironment
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.patterns import PatternError, replaced


def render(template: str, values: Mapping[str, Any], row: Row) -> str:
    """The text of a template over a row's columns and other `values`.

    Raises:
        DataError: the template names a column that the row doesn't have, or writes one that is null.
    """
    if "{" not in template and "\r" not in template:
        return template  # nothing to fill in
    try:
        return compiled(template, False).render(_scope(values, row))
    except RenderingError as error:
        raise DataError(_explain(template, error, values, row)) from error


def evaluate(expression: str, values: Mapping[str, Any], row: Row) -> Any:
    """The value of an expression over a row's columns and other `values`: a list, a number, a text.

    Raises:
        DataError: the expression names a column that the row doesn't have, or fails.
    """
    try:
        return compiled(expression, True).evaluate(_scope(values, row))
    except RenderingError as error:
        raise DataError(_explain(expression, error, values, row)) from error


@lru_cache(maxsize=1024)
def names(template: str) -> frozenset[str]:
    """The variables that a template reads.

    Raises:
        RenderingError: it does not parse.
    """
    compiled(template, False)
    return frozenset(meta.find_undeclared_variables(parsed(template)))


def parsed(template: str) -> nodes.Template:
    """The syntax tree of a template."""
    return _environment().parse(template)


def as_template(expression: str) -> str:
    """A template that reads the same variables as an expression."""
    return f"{{{{ ({expression}\n) }}}}" if expression else ""


def check(text: str, key: str, expression: bool = False) -> None:
    """Refuse a template or expression that doesn't parse.

    Raises:
        ConfigError: with the key that it stands under.
    """
    try:
        compiled(text, expression)
    except RenderingError as error:
        raise ConfigError(f"{key}: {_shown(text)} does not parse ({error})") from error


@lru_cache(maxsize=1024)
def compiled(text: str, is_expression: bool) -> CompiledTemplate:
    """A template or expression, compiled once.

    Raises:
        RenderingError: it does not parse.
    """
    return CompiledTemplate(_environment(), text, is_expression)


@cache
def _environment() -> BoundedEnvironment:
    environment = BoundedEnvironment(
        refuses_null=True, undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    filters = {"default": _default, "d": _default, "regex_replace": _regex_replace, "positions": _positions}
    environment.filters |= filters
    environment.bound_filters()
    return environment


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Jinja's filter, for which a null is missing, too."""
    is_missing = value is None or isinstance(value, Undefined)
    return default_value if is_missing or (boolean and not value) else value


def _regex_replace(text: str, pattern: str, new: str) -> str:
    try:
        return replaced(pattern, new, text)
    except PatternError as error:
        raise TemplateError(str(error)) from error


def _positions(values: Any, wanted: Any) -> list[int]:
    return [index for index, value in enumerate(values) if value == wanted]


def _scope(values: Mapping[str, Any], row: Row) -> dict[str, Any]:
    return {**_clashing(row), **row.values, "row": row.values, **values}


def _clashing(row: Row) -> dict[str, StrictUndefined]:
    """Names that several levels of an unfolded row have: refused where a template uses them."""
    return {
        name: StrictUndefined(f"{name!r} stands at several levels, use {told}")
        for name, told in row.clashes.items()
    }


def _explain(text: str, error: RenderingError, values: Mapping[str, Any], row: Row) -> str:
    columns = ", ".join(name or "''" for name in row.values)
    nulls = _nulls(text, values, row)
    way_out = f"; null here: {', '.join(nulls)} (write `{nulls[0]} | default('')`)" if nulls else ""
    reason = f"it {error}" if error.is_bound else str(error)
    return f"{row.where}: {_shown(text)} cannot be rendered: {reason}{way_out} (columns: {columns})"


def _nulls(text: str, values: Mapping[str, Any], row: Row) -> list[str]:
    """The columns that a template or expression may read and that are null in the row."""
    return [
        name for name, value in row.values.items() if value is None and name not in values and name in text
    ]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 300 else text[:300] + "...")
