"""Checks that no column of a row is hidden by a variable that templates get besides the row's columns."""

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import nodes

from workbench.config.benchmark import BenchmarkConfig, HubConfig, LocalConfig, OutputType
from workbench.errors import DataError
from workbench.evaluation.benchmarks import benchmark_templates
from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.benchmarks.programs import ANSWER

_CHOICE_ALONE = "{{ choice }}"
"""Default of `continuation`; here `choice` always means the choice that is scored."""
TEMPLATES = (
    *("id", "cluster", "description", "question", "continuation", "target", "program", "unconditional"),
)
"""Keys of a benchmark that are templates."""
_EXPRESSIONS = ("choices_from", "target_index")


class GivenNames:
    """Checks that no column of a row is hidden by a variable of a template with the same name.

    The variables are `row`, `letters`, `subset`, `title`, `choice`, `answer` and `self`.
    """

    def __init__(self, config: BenchmarkConfig) -> None:
        """Find the variables in a benchmark's templates, with its protocol's settings filled in."""
        subset_names = {"subset", "title"} if config.subsets else set()
        column_names = {"row", "letters", "self", *subset_names - {"title"}}
        self._in_columns = self._used(_column_fields(config), column_names)
        section, layout = _layout(config)
        keep_fields = [("keep", config.keep), (f"{section}.keep", layout.keep)]
        keep_templates = (
            (field, benchmark_templates.as_template(text)) for field, text in keep_fields if text
        )
        self._in_keep = self._used(keep_templates, {"row", "self"})
        self._in_prompts = self._used(_prompt_fields(config), {"row", "letters", "self", *subset_names})
        self._in_prompts += self._used(iter([("program", config.program)]), {ANSWER})
        if config.output_type == OutputType.multiple_choice:
            fields = [("question", config.question)]
            fields += [("continuation", config.continuation)] * (config.continuation.strip() != _CHOICE_ALONE)
            self._in_prompts += self._used(iter(fields), {"choice"})

    @staticmethod
    def _used(fields: Iterator[tuple[str, str]], given: set[str]) -> list[tuple[str, str, str]]:
        """Return (field, template, variable) of each use of a variable in `given`; `fields` are templates."""
        return [(field, text, name) for field, text in fields for name in sorted(_names(text) & given)]

    def check_columns(self, row: Row) -> None:
        """Check that `local.columns` or `hub.columns` read no column that a variable of the same name hides.

        Raises:
            DataError: A variable hides a column; the message names the row, the column and the expression.
        """
        _check(self._in_columns, row)

    def check_keep(self, row: Row) -> None:
        """Check that `keep` and the layout's `keep` read no column that a variable of the same name hides.

        Raises:
            DataError: As by `check_columns`.
        """
        _check(self._in_keep, row)

    def check_prompts(self, row: Row) -> None:
        """Check that the templates of an item read no column that a variable of the same name hides.

        Raises:
            DataError: As by `check_columns`.
        """
        _check(self._in_prompts, row)


def _names(text: str) -> frozenset[str]:
    """Return the variables that a template reads; unlike Jinja's analysis, with `self` if it reads that."""
    return benchmark_templates.names(text) | {
        node.name for node in benchmark_templates.parsed(text).find_all(nodes.Name) if node.name == "self"
    }


def _layout(config: BenchmarkConfig) -> tuple[str, LocalConfig | HubConfig]:
    """Return the layout by which the rows are read, and the name of its section."""
    return ("local", config.local) if config.path is not None else ("hub", config.hub)


def _column_fields(config: BenchmarkConfig) -> Iterator[tuple[str, str]]:
    section, layout = _layout(config)
    for column, expression in layout.columns.items():
        yield f"{section}.columns.{column}", benchmark_templates.as_template(expression)


def _prompt_fields(config: BenchmarkConfig) -> Iterator[tuple[str, str]]:
    for field in TEMPLATES:
        yield field, getattr(config, field)
    for field in _EXPRESSIONS:
        yield field, benchmark_templates.as_template(getattr(config, field))
    for choice in config.choices:
        yield "choices", choice


def _check(used: list[tuple[str, str, str]], row: Row) -> None:
    for field, text, name in used:
        if name in row.values and not (name == "row" and _reads_columns(text, row.values)):
            raise DataError(
                f"{row.where}: column {name!r} can't be read as {name!r} in `{field}`, where this name means "
                f"{_MEANINGS[name]} (row.{name} is the column)"
            )


def _reads_columns(text: str, values: Mapping[str, Any]) -> bool:
    """Return whether `row` in a template can only mean all columns, although a column is named `row`, too.

    That is so in `row.NAME`; if the column `row` is an object with fields of its own, only in `row.row`.
    """
    parsed = benchmark_templates.parsed(text)
    lookups = [*parsed.find_all(nodes.Getattr), *parsed.find_all(nodes.Getitem)]
    keys = {
        id(lookup.node): _key(lookup)
        for lookup in lookups
        if isinstance(lookup, nodes.Getattr | nodes.Getitem)
    }
    is_scalar = not isinstance(values["row"], Mapping)
    uses = [node for node in parsed.find_all(nodes.Name) if node.name == "row"]
    return all(id(use) in keys and (is_scalar or keys[id(use)] == "row") for use in uses)


def _key(lookup: nodes.Getattr | nodes.Getitem) -> Any:
    if isinstance(lookup, nodes.Getattr):
        return lookup.attr
    return lookup.arg.value if isinstance(lookup.arg, nodes.Const) else None


_MEANINGS = {
    "row": "all columns of the row",
    "letters": "the list A, B, C, ...",
    "subset": "the benchmark's subset",
    "title": "the title of the subset",
    "choice": "the choice that is scored",
    ANSWER: "the generated answer",
    "self": "a word of the template language",
}
