"""Renders templates of lm-evaluation-harness's tasks in a sandbox with limits on time and size.

The harness's own environment gives a task's YAML access to all of Python.
"""

from functools import cache, lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.environment import Template

from workbench.data.templating.sandbox import BoundedEnvironment
from workbench.patterns.matching import PatternError, replaced


class BoundedTemplate(Template):
    """Template for which the limits of BoundedEnvironment apply to each rendering separately."""

    def render(self, *arguments: Any, **named: Any) -> str:
        """Return the rendered text; the environment's limits on time and size start anew with each call."""
        environment = self.environment
        assert isinstance(environment, BoundedEnvironment)
        environment.start()
        return super().render(*arguments, **named)


class HarnessEnvironment(BoundedEnvironment):
    """Environment with the harness's options and filter; each template is compiled once, not per item."""

    template_class = BoundedTemplate

    def __init__(self) -> None:
        """Create an environment with the options of the harness."""
        super().__init__(undefined=StrictUndefined, keep_trailing_newline=True)
        self.filters["regex_replace"] = regex_replace
        self.bound_filters()
        self.compiled = lru_cache(maxsize=1024)(self._compiled)

    def from_string(self, source: Any, *arguments: Any, **named: Any) -> Any:
        """Return the compiled template of a source text, the same object for the same text."""
        return self.compiled(source)

    def _compiled(self, source: str) -> Template:
        self.start()
        return super().from_string(source)


def regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """Substitute like the harness's filter of this name, with a time limit.

    Raises:
        TemplateError: Matching takes too long, or the pattern is wrong.
    """
    try:
        return replaced(pattern, repl, string, count)
    except PatternError as error:
        raise TemplateError(str(error)) from error


@cache
def bound_templates() -> None:
    """Make the harness render its templates in a `HarnessEnvironment`, for the rest of the process."""
    from lm_eval import utils

    utils.env = HarnessEnvironment()
