"""The right answer of a row: numbers of choices, or the texts that a generated answer is compared with."""

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

_WAY_OUT = "`keep` can leave such rows out"
_ONE_RIGHT = ("f1", "macro_f1", "mcc", "greedy_match", "target_perplexity", "log_loss")
"""Metrics that compare an item with its one right choice or label; those of `evaluate.load` do so, too."""
_EXPRESSION = re.compile(r"\s*\{\{-?((?:(?!\}\}|\{\{).)*?)-?\}\}\s*", re.S)
"""A template that is nothing but one expression."""


@dataclass(frozen=True)
class Target:
    """The right answer of a row."""

    value: int | str | tuple[int, ...] | tuple[str, ...]
    """Number of the right choice or label (several: all right ones), or the text or texts to generate."""
    references: tuple[str, ...] = ()
    """For generated answers: the texts that the extracted answer is compared with."""
    written: tuple[str, ...] = ()
    """For generated answers: the texts as the row writes them."""

    def shown(self, choices: Sequence[str]) -> str:
        """The answer as an example shows it, which is as the row writes it; the first one of several."""
        if self.written:
            return self.written[0]
        first = self.value[0] if isinstance(self.value, tuple) else self.value
        return choices[first] if choices and isinstance(first, int) else str(first)


def target_of(config: BenchmarkConfig, row: Row, values: Mapping[str, Any], choices: Sequence[str]) -> Target:
    """The right answer of a row, checked: an item that no answer can solve isn't scored.

    Raises:
        DataError: the row has no right answer, or one that can't be given.
    """
    if config.output_type == OutputType.perplexity:
        return Target("")
    generated = config.output_type == OutputType.generation
    if config.target_index:
        index = _index(
            config, row, benchmark_templates.evaluate(config.target_index, values, row), len(choices)
        )
        if not generated:
            return Target(_right(config, row, index))
        chosen = [choices[number] for number in (index if isinstance(index, tuple) else (index,))]
        return _texts(config, row, chosen, choices)
    _check_label(config, row, values)
    texts, is_list = _rendered(config, row, values)
    if generated:
        return _texts(config, row, texts, choices)
    if not choices:
        return Target(texts[0])
    numbers = tuple(_choice(row, text, choices) for text in texts)
    return Target(_right(config, row, numbers if is_list else numbers[0]))


def _right(config: BenchmarkConfig, row: Row, numbers: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """The right choices, each once; a number where it is one."""
    if isinstance(numbers, int):
        return numbers
    different = tuple(dict.fromkeys(numbers))
    if len(different) == 1:
        return different[0]
    if metric := next((name for name in config.metrics if name in _ONE_RIGHT or "/" in name), None):
        raise DataError(
            f"{row.where}: {_key(config)!r} makes {len(different)} choices right, but metrics: {metric!r} "
            "compares with one (acc and true_mass take several)"
        )
    return different


def _rendered(config: BenchmarkConfig, row: Row, values: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The texts of `target`, and whether the row holds a list of them."""
    expression = _EXPRESSION.fullmatch(config.target)
    value = benchmark_templates.evaluate(expression[1].strip(), values, row) if expression else None
    if expression and value is None:
        raise DataError(f"{row.where}: no right answer: {config.target!r} is null ({_WAY_OUT})")
    if isinstance(value, Mapping):
        fields = ", ".join(map(str, value))
        raise DataError(f"{row.where}: {config.target!r} is an object with {fields} (one of these)")
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


def _texts(config: BenchmarkConfig, row: Row, texts: Sequence[str], choices: Sequence[str]) -> Target:
    """Targets of generated answers with what an extracted answer must equal."""
    how, values, references = config.generation, dict[str, None](), dict[str, None]()
    for text in texts:
        if not text.strip():
            raise DataError(f"{row.where}: no right answer: {_key(config)!r} is empty ({_WAY_OUT})")
        found = extract.references(text, how, letters_of(choices))
        if found is None:
            kind = {Extract.number: "one number", Extract.letter: "a choice's letter"}[how.extract]
            raise DataError(
                f"{row.where}: the right answer {text!r} is not {kind}, which generation.extract: "
                f"{how.extract.name} takes from answers (another `extract`, another target, or {_WAY_OUT})"
            )
        values[found[0]] = None
        references |= dict.fromkeys(found)
    value = next(iter(values)) if len(values) == 1 else tuple(values)
    return Target(value, tuple(references), tuple(texts))


def letters_of(choices: Sequence[str]) -> str:
    """The capital letters among the choices; all there are where the choices have none."""
    letters = [choice for choice in choices if choice in string.ascii_uppercase and len(choice) == 1]
    return "".join(letters) or string.ascii_uppercase


def _key(config: BenchmarkConfig) -> str:
    return config.target_index or config.target


def _choice(row: Row, text: str, choices: Sequence[str]) -> int:
    plain = [choice.strip() for choice in choices]
    if text.strip() not in plain:
        known = ", ".join(repr(choice) for choice in choices)
        raise DataError(f"{row.where}: the answer {text!r} is none of the choices ({known})")
    return plain.index(text.strip())


def _check_label(config: BenchmarkConfig, row: Row, values: Mapping[str, Any]) -> None:
    for name in benchmark_templates.names(config.target) - values.keys() - row.values.keys() - {"row"}:
        columns = ", ".join(row.values)
        raise DataError(
            f"{row.where}: no label: the split {config.split!r} has no column {name!r} (columns: {columns})"
        )


def _index(config: BenchmarkConfig, row: Row, value: object, count: int) -> int | tuple[int, ...]:
    if isinstance(value, list | tuple):
        if not value:
            raise DataError(f"{row.where}: no right answer: {config.target_index!r} gives [] ({_WAY_OUT})")
        return tuple(_one_index(config, row, number, count) for number in value)
    return _one_index(config, row, value, count)


def _one_index(config: BenchmarkConfig, row: Row, value: object, count: int) -> int:
    text = str(value).strip()
    if not text.isdecimal() or (count and int(text) >= count):
        allowed = f"a whole number from 0 to {count - 1}" if count else "a whole number from 0"
        raise DataError(f"{row.where}: {config.target_index!r} gives {value!r} ({allowed})")
    return int(text)
