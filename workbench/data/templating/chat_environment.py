"""What transformers gives chat templates: options, filters, functions and tags, in a sandbox with bounds."""

import json
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import nodes, pass_eval_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.utils import Namespace

from workbench.data.templating.render_budget import bound
from workbench.data.templating.sandbox import BoundedEnvironment


@cache
def chat_environment() -> BoundedEnvironment:
    """The environment of all chat templates."""
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = as_json
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": strftime_now,
        "dict": ChatDict(),
        "namespace": ChatNamespace,
    }
    environment.bound_filters()
    return environment


class GenerationTag(Extension):
    """`{% generation %}`, which marks what a model has written, and writes it."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        """The block as a call that hands back its text."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    @pass_eval_context
    def written(self, context: Any, caller: Any) -> str:
        """The text of the block."""
        return caller()  # type: ignore[no-any-return]


class ChatDict:
    """The function `dict`."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
        """A mapping."""
        return dict(*arguments, **named)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        """A mapping with one value for all keys."""
        return dict.fromkeys(keys, value)


class ChatNamespace(Namespace):
    """The function `namespace`; names that begin with an underscore are refused, as transformers does."""

    def __init__(*arguments: Any, **named: Any) -> None:
        """Take the first names and values."""
        own, *others = arguments
        values = dict(*others, **named)
        for name in values:
            check_name(name)
        Namespace.__init__(own, values)

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a value."""
        check_name(name)
        super().__setitem__(name, value)


def check_name(name: Any) -> None:
    """Refuse a name that begins with an underscore."""
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no names that begin with an underscore, {name!r}")


def raise_exception(message: Any) -> None:
    """The function with which a chat template refuses a conversation."""
    raise TemplateError(message)


def strftime_now(pattern: str) -> str:
    """The time as text."""
    bound(len(pattern) * 10_000, "with the function 'strftime_now' a text")
    return datetime.now().strftime(pattern)


def as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson` of chat templates: no escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
