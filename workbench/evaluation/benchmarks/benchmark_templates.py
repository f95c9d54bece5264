"""Renders the Jinja templates and expressions of benchmarks in a sandbox: a configuration can't run code."""

import json
from ast import literal_eval
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta, nodes
from jinja2.runtime import Undefined

from workbench.data.templating.render import CompiledTemplate, RenderingError
from workbench.data.templating.sandbox import BoundedEnvironment
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.patterns.matching import PatternError, replaced

_LONGEST_LIST = 100_000
"""Number of characters of a text that is read as a list."""


def render(template: str, values: Mapping[str, Any], row: Row) -> str:
    """Render a template with a row's columns and the variables `values`, which hide columns of the same name.

    Raises:
        DataError: The template doesn't parse, uses a column that the row doesn't have, prints a null value,
            or fails; the message names row and columns.
    """
    if "{" not in template and "\r" not in template:
        return template  # no variables
    try:
        return compiled(template, False).render(_scope(values, row))
    except RenderingError as error:
        raise DataError(_explain(template, error, values, row)) from error


def evaluate(expression: str, values: Mapping[str, Any], row: Row) -> Any:
    """Return the value of an expression with a row's columns and the variables `values`.

    Raises:
        DataError: The expression doesn't parse, uses a column that the row doesn't have, or fails; the
            message names row and columns.
    """
    try:
        return compiled(expression, True).evaluate(_scope(values, row))
    except RenderingError as error:
        raise DataError(_explain(expression, error, values, row)) from error


@lru_cache(maxsize=1024)
def names(template: str) -> frozenset[str]:
    """Return the variables that a template reads.

    Raises:
        RenderingError: The template does not parse.
    """
    compiled(template, False)
    return frozenset(meta.find_undeclared_variables(parsed(template)))


def parsed(template: str) -> nodes.Template:
    """Return the syntax tree of a template, which must parse."""
    return _environment().parse(template)


def as_template(expression: str) -> str:
    """Convert a Jinja expression to the template `{{ (EXPRESSION) }}`; an empty text stays empty.

    The template reads the same variables as the expression.
    """
    return f"{{{{ ({expression}\n) }}}}" if expression else ""


def check(text: str, key: str, expression: bool = False) -> None:
    """Check that a template or expression parses.

    Raises:
        ConfigError: The text does not parse; the message names `key`.
    """
    try:
        compiled(text, expression)
    except RenderingError as error:
        raise ConfigError(f"{key}: {_shown(text)} does not parse ({error})") from error


@lru_cache(maxsize=1024)
def compiled(text: str, is_expression: bool) -> CompiledTemplate:
    """Compile a template or an expression; results are cached.

    Raises:
        RenderingError: The text does not parse.
    """
    return CompiledTemplate(_environment(), text, is_expression)


@cache
def _environment() -> BoundedEnvironment:
    environment = BoundedEnvironment(
        refuses_null=True, undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    filters = {"default": _default, "d": _default, "regex_replace": _regex_replace, "positions": _positions}
    environment.filters |= filters | {"parse_list": _parse_list, "from_json": _from_json}
    environment.bound_filters()
    return environment


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Jinja filter `default`: return the default for a missing or null value.

    Jinja's own filter returns null for null.
    """
    is_missing = value is None or isinstance(value, Undefined)
    return default_value if is_missing or (boolean and not value) else value


def _regex_replace(text: str, pattern: str, new: str) -> str:
    try:
        return replaced(pattern, new, text)
    except PatternError as error:
        raise TemplateError(str(error)) from error


def _positions(values: Any, searched: Any) -> list[int]:
    """Jinja filter `positions`: return the indices at which a list has a value."""
    return [index for index, value in enumerate(values) if value == searched]


def _parse_list(text: Any) -> list[Any]:
    """Jinja filter `parse_list`: return the list that a text writes in JSON or Python; a list stays.

    Another text is the list of itself, unless it begins as a list.
    """
    if isinstance(text, list):
        return text
    values = list_in(str(text))
    if values is None and str(text).lstrip().startswith("["):
        raise TemplateError(f"parse_list: {str(text):.60} is not a list")
    return [text] if values is None else values


def _from_json(value: Any) -> Any:
    """Jinja filter `from_json`: return the value that a text writes in JSON; what isn't a text stays."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise TemplateError(f"from_json: {value:.60} is not JSON ({error})") from error


def list_in(text: str) -> list[Any] | None:
    """Return the list of texts and numbers that a text writes in JSON or Python; None: it writes none."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")) or len(stripped) > _LONGEST_LIST:
        return None
    for read in (json.loads, literal_eval):
        try:
            values = read(stripped)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(values, list) and all(isinstance(value, str | int | float) for value in values):
            return values
    return None


def _scope(values: Mapping[str, Any], row: Row) -> dict[str, Any]:
    return {**_ambiguous_names(row), **row.values, "row": row.values, **values}


def _ambiguous_names(row: Row) -> dict[str, StrictUndefined]:
    """Map each column name that an unfolded row has at several levels to a Jinja value that is undefined.

    A template that uses the name fails with an error that lists the columns' full names.
    """
    return {
        name: StrictUndefined(f"{name!r} is a column at several levels, use {full_names}")
        for name, full_names in row.clashes.items()
    }


def _explain(text: str, error: RenderingError, values: Mapping[str, Any], row: Row) -> str:
    columns = ", ".join(name or "''" for name in row.values)
    nulls = _null_columns(text, values, row)
    way_out = f"; null here: {', '.join(nulls)} (write `{nulls[0]} | default('')`)" if nulls else ""
    reason = f"it {error}" if error.is_bound else str(error)
    return f"{row.where}: {_shown(text)} cannot be rendered: {reason}{way_out} (columns: {columns})"


def _null_columns(text: str, values: Mapping[str, Any], row: Row) -> list[str]:
    """Return the names of a row's null columns that occur in the text of a template or expression."""
    return [
        name for name, value in row.values.items() if value is None and name not in values and name in text
    ]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 300 else text[:300] + "...")
