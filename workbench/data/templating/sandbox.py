"""Sandbox for untrusted Jinja templates: no access to Python objects; limits on time, steps and lengths."""

import threading
from collections.abc import Callable, Iterator
from functools import wraps
from types import BuiltinMethodType
from typing import Any, cast

from jinja2 import pass_environment
from jinja2.environment import Environment
from jinja2.filters import make_attrgetter
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from markupsafe import Markup

from workbench.data.templating import template_filters, template_sizes, written_values
from workbench.data.templating.bounded_formatter import BoundedEscapeFormatter, BoundedFormatter
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
"""Most characters of a template."""

CONTAINERS = (dict, list, tuple)
CALLED_TEMPLATE = (Macro, LoopContext, BlockReference)
DICT_METHODS = frozenset(dir(dict))
SAFE_STR_METHODS = frozenset(name for name in dir(str) if not name.startswith(("_", "format")))
"""Methods of strings that a template may call without a check by Jinja's sandbox."""

NULL_PASSES = ("d", "default", "tojson")
"""Filters that accept a null; `default` replaces it."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with the limits of render_budget.py on steps, time and characters.

    Call `bound_filters` after the last filter is added, and `start` before each rendering. A rendering that
    exceeds a limit raises a BoundError. Threads may render at the same time.
    """

    code_generator_class = BoundedGenerator
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, refuses_null: bool = False, **options: Any) -> None:
        """Build the environment.

        Args:
            refuses_null: Refuse to write null as the word None, a function as its address, or a list or
                object as Python code; the filter `default` can replace a null.
            options: Options of Jinja's environment.
        """
        # optimized=False: else Jinja evaluates constant expressions at compile time, without limits.
        super().__init__(optimized=False, finalize=finalized, **options)
        self.refuses_null = refuses_null
        self._current = threading.local()
        self.globals["lipsum"] = template_filters.lorem_ipsum
        self.filters["sum"] = template_filters.sum_filter

    def bound_filters(self) -> None:
        """Wrap all filters and tests with checks; call this once, after the last filter is added."""
        for name, function in self.filters.items():
            self.filters[name] = self._bounded_filter(name, function)
        for name, test in self.tests.items():
            self.tests[name] = self._bounded_test(cast(Callable[..., Any], test))

    @property
    def meter(self) -> Meter:
        """Meter of the rendering that runs in this thread."""
        meter: Meter = self._current.meter
        return meter

    def start(self) -> None:
        """Start a new meter for this thread, at the beginning of a rendering."""
        self._current.meter = Meter()

    def step(self) -> bool:
        """Count a loop iteration and return True; compiled loops call this."""
        return cast(bool, self._current.meter.step())

    def tick(self) -> bool:
        """Count an operation that may be slow, check the time once in a while, and return True."""
        return cast(bool, self._current.meter.tick())

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute or item as Jinja's sandbox does, but faster in the most frequent cases."""
        kind = type(obj)
        if kind is dict and attribute not in DICT_METHODS:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if kind is str and attribute in SAFE_STR_METHODS:
            return getattr(obj, attribute)
        if isinstance(obj, Namespace) and attribute in (own := attributes(obj)) and attribute[0] != "_":
            return own[attribute]
        return super().getattr(obj, attribute)

    def made(self, value: Any) -> Any:
        """Count the characters of a value that the template has created, and return the value.

        An iterator is returned as an iterator that counts each item.
        """
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
        """Count the characters of a slice that the template has created, and return the slice."""
        self.meter.charge(shallow(value))
        return value

    def operands(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Check the operands of the operator `~`, count their characters, and return them."""
        for value in values:
            self.check_written(value)
        self._current.meter.charge(sum(map(size, values)))
        return values

    def concat(self, texts: Any) -> str:
        """Join the chunks of text that a macro, a block or a `set` block has written, and count them."""
        chunks = list(texts)
        self._current.meter.charge(sum(map(len, chunks)))
        return "".join(chunks)

    def check_null(self, value: Any) -> None:
        """Refuse null and functions, if `refuses_null` is set; see `written_values.check_null`."""
        if self.refuses_null:
            written_values.check_null(value)

    def check_function(self, value: Any) -> None:
        """Refuse functions, if `refuses_null` is set; see `written_values.check_function`."""
        if self.refuses_null:
            written_values.check_function(value)

    def check_written(self, value: Any) -> None:
        """Refuse values that would be written as Python code, if `refuses_null` is set.

        Raises:
            NullError, FunctionError, ContainerError: As for `written_values.check_written`.
        """
        if self.refuses_null:
            written_values.check_written(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Evaluate a binary operator, after counting the characters of its result."""
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
            result_size = template_sizes.repeated if operator == "*" else template_sizes.power
            meter.charge(result_size(left, right))
        return super().call_binop(context, operator, left, right)

    def _check_printf(self, template: Any, values: Any) -> None:
        if isinstance(template, str | bytes):
            for value in values if isinstance(values, tuple) else (values,):
                self.check_written(value)
            self.meter.charge(template_sizes.printf(template, values))

    def call(self, context: Context, function: Any, /, *arguments: Any, **named: Any) -> Any:
        """Call a function or method for a template, and count the characters of the result.

        Methods that can make long strings, such as `str.center`, are checked before the call.
        """
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
            if isinstance(result, CONTAINERS):  # the items of a container have been counted already
                meter.charge(shallow(result))
            return result
        if isinstance(function, CALLED_TEMPLATE):
            meter.step()
        return self.made(super().call(context, function, *arguments, **named))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Replace the method `str.format` by a formatter that checks lengths; None for other functions."""
        sandboxed = super().wrap_str_format(value)
        if sandboxed is None:
            return None
        text, is_map = value.__self__, value.__name__ == "format_map"

        @wraps(sandboxed)
        def bounded(*arguments: Any, **named: Any) -> str:
            if is_map and (named or len(arguments) != 1):
                return sandboxed(*arguments, **named)  # it raises TypeError for these arguments
            values = ((), arguments[0]) if is_map else (arguments, named)
            if isinstance(text, Markup):
                return Markup(BoundedEscapeFormatter(self, escape=text.escape).vformat(text, *values))
            return str(BoundedFormatter(self).vformat(text, *values))

        return bounded

    def _bounded_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        num_passed = int(hasattr(function, "jinja_pass_arg"))
        is_unguarded = name not in template_filters.GUARDED and name != "join"

        @wraps(function)
        def bounded(*arguments: Any, **named: Any) -> Any:
            value, *options = arguments[num_passed:]
            if is_unguarded and type(value) is str:
                return self.made(function(*arguments, **named))
            if name in written_values.TEXT_FILTERS:
                self.check_written(value)
            elif name not in NULL_PASSES:
                self.check_null(value)
            if name == "format":
                list(map(self.check_written, (*options, *named.values())))
            if name == "join":
                value, *options = self._checked_items(value, *options, **named)
                named = {}
            template_filters.check_filter(name, self.meter, value, *options, **named)
            result = function(*arguments[:num_passed], value, *options, **named)
            if isinstance(result, Iterator) and not isinstance(result, LoopContext):
                return self._counted(result, name == "map")
            if name not in template_filters.PASSTHROUGH or isinstance(result, int):
                return self.made(result)
            self.meter.charge(shallow(result))
            return result

        return bounded

    def _checked_items(self, value: Any, d: Any = "", attribute: Any = None) -> tuple[list[Any], Any]:
        """Return the items and the separator of the filter `join`, after counting their characters."""
        items = list(value)
        if attribute is not None:
            items = list(map(make_attrgetter(self, attribute), items))
        for item in items:
            self.check_written(item)
        self.meter.charge(template_sizes.joined(d, items), "a text with the filter 'join'")
        return items, d

    def _bounded_test(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def bounded(*arguments: Any, **named: Any) -> Any:
            self.tick()
            return function(*arguments, **named)

        return bounded

    def _counted(self, items: Iterator[Any], are_new: bool = True) -> Iterator[Any]:
        """Yield the items of an iterator, and count them against the limits.

        Args:
            items: The iterator.
            are_new: Whether the template has created the items, so that their characters count, too.
        """
        total = 0
        for item in items:
            self.tick()
            total += size(item) if are_new else NODE
            bound(total)
            if isinstance(item, list):  # from `batch` and `slice`
                self.meter.charge(shallow(item))
            yield item


@pass_environment
def finalized(environment: Environment, value: Any) -> Any:
    """Check and count a value that the template is about to write; return the value."""
    if type(value) is not str:
        bounded = cast(BoundedEnvironment, environment)
        bounded.check_written(value)
        bounded.meter.charge(size(value))
    return value
