"""The sandbox with the options, filters, functions and tags that transformers gives to chat templates."""

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
    """Return the Jinja environment that renders all chat templates; it is the same object in each call."""
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
    """The tag `{% generation %}` encloses the text of an answer in a template.

    The text is written unchanged.
    """

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        """Compile the tag into a call of the method `written`, as Jinja's extensions do."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    @pass_eval_context
    def written(self, context: Any, caller: Any) -> str:
        """Return the rendered text inside the tag; `caller` renders it."""
        return caller()  # type: ignore[no-any-return]


class ChatDict:
    """The function `dict` of templates."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
        """Build a dictionary from pairs and keyword arguments, as Python's `dict` does."""
        return dict(*arguments, **named)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        """Build a dictionary with the same value for all keys."""
        return dict.fromkeys(keys, value)


class ChatNamespace(Namespace):
    """The function `namespace` of templates; as in transformers, names must not begin with an underscore."""

    def __init__(*arguments: Any, **named: Any) -> None:
        """Set the attributes of the namespace from pairs and keyword arguments.

        Raises:
            SecurityError: A name begins with an underscore.
        """
        namespace, *initial = arguments
        values = dict(*initial, **named)
        for name in values:
            check_name(name)
        Namespace.__init__(namespace, values)

    def __setitem__(self, name: str, value: Any) -> None:
        """Set an attribute, as `{% set namespace.name = value %}` does; raise a SecurityError for `_name`."""
        check_name(name)
        super().__setitem__(name, value)


def check_name(name: Any) -> None:
    """Raise a SecurityError if the name of a namespace's attribute begins with an underscore."""
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a name in a namespace must not begin with an underscore, {name!r}")


def raise_exception(message: Any) -> None:
    """Raise a TemplateError: the function `raise_exception`, with which a chat template rejects a chat."""
    raise TemplateError(message)


def strftime_now(pattern: str) -> str:
    """Return the current local time in a format of `strftime`: the function `strftime_now` of chat templates.

    Raises:
        BoundError: The pattern is longer than 1,000 characters.
    """
    bound(len(pattern) * 10_000, "a text with the function 'strftime_now'")
    return datetime.now().strftime(pattern)


def as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """Return a value as JSON without HTML escapes: the filter `tojson` of chat templates."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
