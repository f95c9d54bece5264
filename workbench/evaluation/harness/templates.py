"""Templates of lm-evaluation-harness's tasks, held to the same sandbox and bounds as all others.

The harness renders them in an environment in which a task's YAML could reach all of Python.
"""

from functools import cache, lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.environment import Template

from workbench.data.templating.sandbox import BoundedEnvironment
from workbench.patterns import PatternError, replaced


class BoundedTemplate(Template):
    """A template whose renderings are counted one by one."""

    def render(self, *arguments: Any, **named: Any) -> str:
        """The text of the template."""
        environment = self.environment
        assert isinstance(environment, BoundedEnvironment)
        environment.start()
        return super().render(*arguments, **named)


class HarnessEnvironment(BoundedEnvironment):
    """The harness's options and filter; each template is compiled once and not once an item."""

    template_class = BoundedTemplate

    def __init__(self) -> None:
        """Take the options that the harness takes."""
        super().__init__(undefined=StrictUndefined, keep_trailing_newline=True)
        self.filters["regex_replace"] = regex_replace
        self.bound_filters()
        self.compiled = lru_cache(maxsize=1024)(self._compiled)

    def from_string(self, source: Any, *arguments: Any, **named: Any) -> Any:
        """The compiled template."""
        return self.compiled(source)

    def _compiled(self, source: str) -> Template:
        self.start()
        return super().from_string(source)


def regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """The harness's filter of this name."""
    try:
        return replaced(pattern, repl, string, count)
    except PatternError as error:
        raise TemplateError(str(error)) from error


@cache
def hold_templates() -> None:
    """Render the harness's templates within bounds from now on."""
    from lm_eval import utils

    utils.env = HarnessEnvironment()
