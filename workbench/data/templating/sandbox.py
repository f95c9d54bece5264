"""Jinja templates of others: a sandbox in which they can run no code, and make nothing endless or huge."""

import threading
from collections.abc import Callable, Iterator
from functools import wraps
from types import BuiltinMethodType
from typing import Any, cast

from jinja2 import pass_environment
from jinja2.environment import Environment
from jinja2.filters import make_attrgetter
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace
from markupsafe import EscapeFormatter, Markup

from workbench.data.templating import template_filters, template_sizes, written_values
from workbench.data.templating.render_budget import (
    MAX_BITS,
    MAX_CHARACTERS,
    NODE,
    Meter,
    attributes,
    bound,
    shallow,
    size,
)
from workbench.data.templating.template_compiler import BoundedGenerator

MAX_SOURCE = 250_000
"""Characters of a template."""
CONTAINERS = (dict, list, tuple)
CALLED_TEMPLATE = (Macro, LoopContext, BlockReference)
OF_DICT = frozenset(dir(dict))
OF_TEXT = frozenset(name for name in dir(str) if not name.startswith(("_", "format")))
"""Methods of texts that need no sandbox."""
NULL_PASSES = ("d", "default", "tojson")
"""Filters that know what to do with a null."""


class BoundedFormatter(SandboxedFormatter):
    """`str.format` of a template, each field measured."""

    total = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        """The text of a field."""
        self._env.check_written(value)  # type: ignore[attr-defined]
        bound(template_sizes.field_width(format_spec) + size(value), "with the method 'format' a text")
        text = super().format_field(value, format_spec)
        self.total += len(text)
        bound(self.total, "with the method 'format' a text")
        return text

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """The value as `!r`, `!s` or `!a` make it."""
        bound(size(value), "with the method 'format' a text")
        return super().convert_field(value, conversion)


class BoundedEscapeFormatter(BoundedFormatter, EscapeFormatter):
    """The same for texts that are marked as safe."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates are held to the bounds of meter.py."""

    code_generator_class = BoundedGenerator
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, refuses_null: bool = False, **options: Any) -> None:
        """Take what any environment of jinja takes.

        Args:
            refuses_null: A null is never written as the word None: `default` replaces it, all else refuses.
                Nor is a function written as its address, or a list or an object as Python code.
            options: Of jinja's environment.
        """
        # Without folding: jinja would compute constants while it compiles.
        super().__init__(optimized=False, finalize=finalized, **options)
        self.refuses_null = refuses_null
        self._current = threading.local()
        self.globals["lipsum"] = template_filters.lorem_ipsum
        self.filters["sum"] = template_filters.total

    def bound_filters(self) -> None:
        """Put the bounds around all filters and tests; called once they are all there."""
        for name, function in self.filters.items():
            self.filters[name] = self._bounded_filter(name, function)
        for name, test in self.tests.items():
            self.tests[name] = self._bounded_test(cast(Callable[..., Any], test))

    @property
    def meter(self) -> Meter:
        """What counts the rendering that this thread is in."""
        meter: Meter = self._current.meter
        return meter

    def start(self) -> None:
        """Begin to count a rendering."""
        self._current.meter = Meter()

    def step(self) -> bool:
        """Count a step of a loop; true."""
        return cast(bool, self._current.meter.step())

    def tick(self) -> bool:
        """Look at the time now and then; true."""
        return cast(bool, self._current.meter.tick())

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute or item, as jinja finds it; by a shorter way for what templates ask for most."""
        kind = type(obj)
        if kind is dict and attribute not in OF_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if kind is str and attribute in OF_TEXT:
            return getattr(obj, attribute)
        if isinstance(obj, Namespace) and attribute in (own := attributes(obj)) and attribute[0] != "_":
            return own[attribute]
        return super().getattr(obj, attribute)

    def made(self, value: Any) -> Any:
        """A value that the template has just made, measured; iterators are measured as they go."""
        kind = type(value)
        if kind is bool or value is None:
            return value
        if kind is str or isinstance(value, str | bytes):
            self._current.meter.charge(len(value))
        elif isinstance(value, int):
            bound(MAX_CHARACTERS + 1 if value.bit_length() > MAX_BITS else 0, "a number")
        elif isinstance(value, Iterator) and not isinstance(value, LoopContext):
            return self._counted(value)
        else:
            bound(size(value))
            self._current.meter.charge(shallow(value))
        return value

    def sliced(self, value: Any) -> Any:
        """A part of another value."""
        self.meter.charge(shallow(value))
        return value

    def pieces(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values that are about to be joined."""
        for value in values:
            self.check_written(value)
        self._current.meter.charge(sum(map(size, values)))
        return values

    def concat(self, texts: Any) -> str:
        """The pieces of a macro, a block or a `set` joined."""
        pieces = list(texts)
        self._current.meter.charge(sum(map(len, pieces)))
        return "".join(pieces)

    def check_null(self, value: Any) -> None:
        """Refuse a null or a function where this environment refuses nulls."""
        if self.refuses_null:
            written_values.check_null(value)

    def check_function(self, value: Any) -> None:
        """Refuse a function where this environment refuses nulls."""
        if self.refuses_null:
            written_values.check_function(value)

    def check_written(self, value: Any) -> None:
        """Refuse what would be written as Python code where this environment refuses nulls."""
        if self.refuses_null:
            written_values.check_written(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The result of an operator."""
        meter = self._current.meter
        if operator == "+":
            if type(left) is str and type(right) is str:
                meter.charge(len(left) + len(right))
                return left + right
            if template_sizes.members_or_text(left):
                bound(size(left) + size(right))
                meter.charge(NODE * len(left))
        elif operator == "%":
            self._check_printf(left, right)
        else:
            needed = template_sizes.repeated if operator == "*" else template_sizes.power
            meter.charge(needed(left, right))
        return super().call_binop(context, operator, left, right)

    def _check_printf(self, template: Any, values: Any) -> None:
        if isinstance(template, str | bytes):
            for value in values if isinstance(values, tuple) else (values,):
                self.check_written(value)
            self.meter.charge(template_sizes.printf(template, values))

    def call(self, context: Context, function: Any, /, *arguments: Any, **named: Any) -> Any:
        """The result of a call."""
        meter = self._current.meter
        if type(function) is BuiltinMethodType:
            named.pop("_loop_vars", None)
            named.pop("_block_vars", None)
            if function.__name__ == "join" and arguments:
                arguments = (list(arguments[0]), *arguments[1:])
            template_filters.check_call(meter, function, arguments, named)
            result = function(*arguments, **named)
            if not isinstance(function.__self__, CONTAINERS):
                return self.made(result)
            if isinstance(result, CONTAINERS):  # all that comes out of one has been measured
                meter.charge(shallow(result))
            return result
        if isinstance(function, CALLED_TEMPLATE):
            meter.step()
        return self.made(super().call(context, function, *arguments, **named))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's own way around `str.format`, with a formatter that measures."""
        own = super().wrap_str_format(value)
        if own is None:
            return None
        text, is_map = value.__self__, value.__name__ == "format_map"

        @wraps(own)
        def bounded(*arguments: Any, **named: Any) -> str:
            if is_map and (named or len(arguments) != 1):
                return own(*arguments, **named)  # which says what is wrong with them
            values = ((), arguments[0]) if is_map else (arguments, named)
            if isinstance(text, Markup):
                return Markup(BoundedEscapeFormatter(self, escape=text.escape).vformat(text, *values))
            return str(BoundedFormatter(self).vformat(text, *values))

        return bounded

    def _bounded_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        skipped = int(hasattr(function, "jinja_pass_arg"))
        is_plain = name not in template_filters.GUARDED and name != "join"

        @wraps(function)
        def bounded(*arguments: Any, **named: Any) -> Any:
            value, *others = arguments[skipped:]
            if is_plain and type(value) is str:
                return self.made(function(*arguments, **named))
            if name in written_values.TEXT_FILTERS:
                self.check_written(value)
            elif name not in NULL_PASSES:
                self.check_null(value)
            if name == "format":
                list(map(self.check_written, (*others, *named.values())))
            if name == "join":
                value, *others = self._checked_items(value, *others, **named)
                named = {}
            template_filters.check_filter(name, self.meter, value, *others, **named)
            result = function(*arguments[:skipped], value, *others, **named)
            if isinstance(result, Iterator) and not isinstance(result, LoopContext):
                return self._counted(result, name == "map")
            if name not in template_filters.PASSING or isinstance(result, int):
                return self.made(result)
            self.meter.charge(shallow(result))
            return result

        return bounded

    def _checked_items(self, value: Any, d: Any = "", attribute: Any = None) -> tuple[list[Any], Any]:
        """The items that the filter `join` is about to write, and what it writes between them."""
        items = list(value)
        if attribute is not None:
            items = list(map(make_attrgetter(self, attribute), items))
        for item in items:
            self.check_written(item)
        self.meter.charge(template_sizes.joined(d, items), "with the filter 'join' a text")
        return items, d

    def _bounded_test(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def bounded(*arguments: Any, **named: Any) -> Any:
            self.tick()
            return function(*arguments, **named)

        return bounded

    def _counted(self, items: Iterator[Any], measured: bool = True) -> Iterator[Any]:
        """The items of an iterator, counted, and measured where they are new ones."""
        total = 0
        for item in items:
            self.tick()
            total += size(item) if measured else NODE
            bound(total)
            if isinstance(item, list):  # of `batch` and `slice`
                self.meter.charge(shallow(item))
            yield item


@pass_environment
def finalized(environment: Environment, value: Any) -> Any:
    """A value that is about to be written."""
    if type(value) is not str:
        bounded = cast(BoundedEnvironment, environment)
        bounded.check_written(value)
        bounded.meter.charge(size(value))
    return value


def template_line(error: BaseException) -> int | None:
    """The line of the template in which an error was raised."""
    line = getattr(error, "lineno", None)
    trace = error.__traceback__
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def reason(error: BaseException) -> str:
    """What an error of a template says, in one line that can be shown, with the template's line."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(character if character.isprintable() else "�" for character in text)
    if isinstance(error, RecursionError):
        text = "calls itself without end, or is nested too deeply"
    elif isinstance(error, MemoryError):
        text = "needs more memory than there is"
    text = text if len(text) <= 300 else text[:300] + "..."
    line = template_line(error)
    return text if line is None else f"{text} (line {line} of the template)"
