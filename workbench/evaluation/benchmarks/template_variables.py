"""The names that templates know besides a row's columns; a column that such a name hides is refused."""

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import nodes

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.errors import DataError
from workbench.evaluation.benchmarks import benchmark_templates
from workbench.evaluation.benchmarks.benchmark_files import Row

_CHOICE_ALONE = "{{ choice }}"
"""The default of `continuation`, which can mean nothing but the choice that is scored."""
_TEMPLATES = ("id", "description", "target", "unconditional", "question", "continuation")
_EXPRESSIONS = ("choices_from", "target_index")


class GivenNames:
    """Which of `row`, `letters`, `subset`, `title`, `choice` and `self` each template of a benchmark uses.

    A template that uses one reads what the benchmark puts there and not the row's column of that name.
    """

    def __init__(self, config: BenchmarkConfig) -> None:
        """Take a benchmark whose protocol is resolved."""
        about_subset = {"subset", "title"} if config.subsets else set()
        for_columns = {"row", "letters", "self", *about_subset - {"title"}}
        self._of_columns = self._used(_column_fields(config), for_columns)
        keeps = [("keep", config.keep), ("local.keep", config.local.keep)]
        written = ((field, benchmark_templates.as_template(text)) for field, text in keeps if text)
        self._of_keep = self._used(written, {"row", "self"})
        self._of_prompts = self._used(_prompt_fields(config), {"row", "letters", "self", *about_subset})
        if config.output_type == OutputType.multiple_choice:
            fields = [("question", config.question)]
            fields += [("continuation", config.continuation)] * (config.continuation.strip() != _CHOICE_ALONE)
            self._of_prompts += self._used(iter(fields), {"choice"})

    @staticmethod
    def _used(fields: Iterator[tuple[str, str]], given: set[str]) -> list[tuple[str, str, str]]:
        """Field, its template, and a given name that it uses."""
        return [(field, text, name) for field, text in fields for name in sorted(_names(text) & given)]

    def check_columns(self, row: Row) -> None:
        """Refuse a row of a file whose column is hidden from the expressions of `local` or `hub`.

        Raises:
            DataError: names the row, the column and the expression.
        """
        _check(self._of_columns, row)

    def check_keep(self, row: Row) -> None:
        """The same for `keep`."""
        _check(self._of_keep, row)

    def check_prompts(self, row: Row) -> None:
        """The same for the templates of prompts, choices and answers."""
        _check(self._of_prompts, row)


def _names(text: str) -> frozenset[str]:
    """The names that a template reads, `self` too."""
    return benchmark_templates.names(text) | {
        found.name for found in benchmark_templates.parsed(text).find_all(nodes.Name) if found.name == "self"
    }


def _column_fields(config: BenchmarkConfig) -> Iterator[tuple[str, str]]:
    place, layout = ("local", config.local) if config.path is not None else ("hub", config.hub)
    for column, expression in layout.columns.items():
        yield f"{place}.columns.{column}", benchmark_templates.as_template(expression)


def _prompt_fields(config: BenchmarkConfig) -> Iterator[tuple[str, str]]:
    for field in _TEMPLATES:
        yield field, getattr(config, field)
    for field in _EXPRESSIONS:
        yield field, benchmark_templates.as_template(getattr(config, field))
    for choice in config.choices:
        yield "choices", choice


def _check(used: list[tuple[str, str, str]], row: Row) -> None:
    for field, text, name in used:
        if name in row.values and not (name == "row" and _reads_columns(text, row.values)):
            raise DataError(
                f"{row.where}: column {name!r} can't be read as {name!r} in `{field}`, where this name is "
                f"{_MEANINGS[name]} (row.{name} is the column)"
            )


def _reads_columns(text: str, values: Mapping[str, Any]) -> bool:
    """Whether each `row` in a template is the mapping of all columns, though there is a column `row`."""
    parsed = benchmark_templates.parsed(text)
    read = [*parsed.find_all(nodes.Getattr), *parsed.find_all(nodes.Getitem)]
    keys = {id(found.node): _key(found) for found in read if isinstance(found, nodes.Getattr | nodes.Getitem)}
    plain = not isinstance(values["row"], Mapping)
    uses = [found for found in parsed.find_all(nodes.Name) if found.name == "row"]
    return all(id(use) in keys and (plain or keys[id(use)] == "row") for use in uses)


def _key(found: nodes.Getattr | nodes.Getitem) -> Any:
    if isinstance(found, nodes.Getattr):
        return found.attr
    return found.arg.value if isinstance(found.arg, nodes.Const) else None


_MEANINGS = {
    "row": "all columns of the row",
    "letters": "the list A, B, C, ...",
    "subset": "the benchmark's subset",
    "title": "the title of the subset",
    "choice": "the choice that is scored",
    "self": "a word of the template language",
}
