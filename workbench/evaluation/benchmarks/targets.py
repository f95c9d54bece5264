"""Reads the target of a row: indices of choices, or the texts that a generated answer is compared with."""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.config.benchmark import BenchmarkConfig, Extract, OutputType
from workbench.errors import DataError
from workbench.evaluation.benchmarks import benchmark_templates
from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.extraction import extract

_WAY_OUT = "`keep` can filter such rows out"
_SINGLE_TARGET_METRICS = ("f1", "macro_f1", "mcc", "greedy_match", "target_perplexity", "log_loss")
"""Metrics that need a single right choice or label; so do the metrics of `evaluate.load`."""
_EXPRESSION = re.compile(r"\s*\{\{-?((?:(?!\}\}|\{\{).)*?)-?\}\}\s*", re.S)
"""Pattern of a template that consists of a single expression, such as `{{ answer }}`."""


@dataclass(frozen=True)
class Target:
    """The right answer or answers of a row."""

    value: int | str | tuple[int, ...] | tuple[str, ...]
    """Index of the right choice or label, a tuple of all right indices, or the text or texts to generate."""
    references: tuple[str, ...] = ()
    """Texts that the extracted answer of a generation is compared with."""
    written: tuple[str, ...] = ()
    """Right answers to generate, as the row writes them."""

    def shown(self, choices: Sequence[str]) -> str:
        """Return the answer to show in a few-shot example: the first right one, as the row writes it."""
        if self.written:
            return self.written[0]
        first = self.value[0] if isinstance(self.value, tuple) else self.value
        return choices[first] if choices and isinstance(first, int) else str(first)


def target_of(config: BenchmarkConfig, row: Row, values: Mapping[str, Any], choices: Sequence[str]) -> Target:
    """Return the right answer or answers of a row, after checking that a model's answer can equal them.

    The target of a perplexity benchmark is an empty text.

    Raises:
        DataError: The row has no right answer, or one that no model can give.
    """
    if config.output_type == OutputType.perplexity:
        return Target("")
    is_generation = config.output_type == OutputType.generation
    if config.target_index:
        index = _checked_indices(
            config, row, benchmark_templates.evaluate(config.target_index, values, row), len(choices)
        )
        if not is_generation:
            return Target(_distinct_indices(config, row, index))
        right_choices = [choices[number] for number in (index if isinstance(index, tuple) else (index,))]
        return _generation_target(config, row, right_choices, choices)
    _check_target_columns(config, row, values)
    texts, is_list = _rendered(config, row, values)
    if is_generation:
        return _generation_target(config, row, texts, choices)
    if not choices:
        return Target(texts[0])
    indices = tuple(_choice_index(row, text, choices) for text in texts)
    return Target(_distinct_indices(config, row, indices if is_list else indices[0]))


def _distinct_indices(
    config: BenchmarkConfig, row: Row, indices: int | tuple[int, ...]
) -> int | tuple[int, ...]:
    """Return the indices of the right choices without duplicates; a single index as a number, not a tuple.

    Raises:
        DataError: Several choices are right, and a metric of the benchmark takes one only.
    """
    if isinstance(indices, int):
        return indices
    distinct = tuple(dict.fromkeys(indices))
    if len(distinct) == 1:
        return distinct[0]
    if metric := next(
        (name for name in config.metrics if name in _SINGLE_TARGET_METRICS or "/" in name), None
    ):
        raise DataError(
            f"{row.where}: {_target_expression(config)!r} makes {len(distinct)} choices right, "
            f"but metrics: {metric!r} takes a single one (acc and true_mass take several)"
        )
    return distinct


def _rendered(config: BenchmarkConfig, row: Row, values: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Evaluate `target` for a row; return the right answers as texts, and whether its value was a list."""
    expression = _EXPRESSION.fullmatch(config.target)
    value = benchmark_templates.evaluate(expression[1].strip(), values, row) if expression else None
    if expression and value is None:
        raise DataError(f"{row.where}: no right answer: {config.target!r} is null ({_WAY_OUT})")
    if isinstance(value, Mapping):
        fields = ", ".join(map(str, value))
        raise DataError(f"{row.where}: {config.target!r} is an object (use one of its fields: {fields})")
    if not isinstance(value, list | tuple):
        return [benchmark_templates.render(config.target, values, row)], False
    if not value:
        raise DataError(f"{row.where}: no right answer: {config.target!r} is an empty list ({_WAY_OUT})")
    for entry in value:
        if entry is None or isinstance(entry, list | tuple | Mapping):
            raise DataError(
                f"{row.where}: {config.target!r} is the list {value!r} (a list of texts or numbers)"
            )
    return [str(entry) for entry in value], True


def _generation_target(
    config: BenchmarkConfig, row: Row, texts: Sequence[str], choices: Sequence[str]
) -> Target:
    """Return the target of an item that a generated text answers.

    `texts` are the right answers as the row writes them. From each come the references, with which the answer
    extracted from a generated text is compared.
    """
    generation, values, references = config.generation, dict[str, None](), dict[str, None]()
    for text in texts:
        if not text.strip():
            raise DataError(
                f"{row.where}: no right answer: {_target_expression(config)!r} is empty ({_WAY_OUT})"
            )
        accepted = extract.references(text, generation, letters_of(choices))
        if accepted is None:
            kind = {Extract.number: "one number", Extract.letter: "a choice's letter"}[generation.extract]
            raise DataError(
                f"{row.where}: the right answer {text!r} is not {kind}, which generation.extract: "
                f"{generation.extract.name} extracts from answers "
                f"(another `extract`, another target, or {_WAY_OUT})"
            )
        values[accepted[0]] = None
        references |= dict.fromkeys(accepted)
    value = next(iter(values)) if len(values) == 1 else tuple(values)
    return Target(value, tuple(references), tuple(texts))


def letters_of(choices: Sequence[str]) -> str:
    """Return the choices that are single capital letters, joined, as in `ABCD`; without any, A to Z."""
    letters = [choice for choice in choices if choice in string.ascii_uppercase and len(choice) == 1]
    return "".join(letters) or string.ascii_uppercase


def _target_expression(config: BenchmarkConfig) -> str:
    return config.target_index or config.target


def _choice_index(row: Row, text: str, choices: Sequence[str]) -> int:
    stripped = [choice.strip() for choice in choices]
    if text.strip() not in stripped:
        known = ", ".join(repr(choice) for choice in choices)
        way_out = ""
        if text.strip().casefold() in [choice.casefold() for choice in stripped]:
            way_out = " but for its case (`| upper` or `| lower` in the target changes it)"
        elif text.strip().isdecimal():
            way_out = " (numbers of choices, from 0, are `target_index`: `answer - 1` if yours start at 1)"
        raise DataError(f"{row.where}: the answer {text!r} is not one of the choices ({known}){way_out}")
    return stripped.index(text.strip())


def _check_target_columns(config: BenchmarkConfig, row: Row, values: Mapping[str, Any]) -> None:
    for name in benchmark_templates.names(config.target) - values.keys() - row.values.keys() - {"row"}:
        columns = ", ".join(row.values)
        raise DataError(
            f"{row.where}: no label: the split {config.split!r} has no column {name!r} (columns: {columns})"
        )


def _checked_indices(config: BenchmarkConfig, row: Row, value: object, count: int) -> int | tuple[int, ...]:
    if isinstance(value, list | tuple):
        if not value:
            raise DataError(f"{row.where}: no right answer: {config.target_index!r} gives [] ({_WAY_OUT})")
        return tuple(_checked_index(config, row, number, count) for number in value)
    return _checked_index(config, row, value, count)


def _checked_index(config: BenchmarkConfig, row: Row, value: object, count: int) -> int:
    text = str(value).strip()
    if not text.isdecimal() or (count and int(text) >= count):
        allowed = f"a whole number from 0 to {count - 1}" if count else "a whole number from 0"
        raise DataError(f"{row.where}: {config.target_index!r} gives {value!r} ({allowed})")
    return int(text)
