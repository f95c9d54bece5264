"""Texts, or pairs of texts, with a class each."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig, Truncation, key_of
from workbench.data.classes import UNLABELLED, class_list, clean_name, say_look_alikes
from workbench.data.conversations import short
from workbench.data.formats import text
from workbench.data.rows import Row
from workbench.data.tokens.segments import Segment, encode_segments, ids_of, special_frame
from workbench.errors import ConfigError, DataError
from workbench.files import local_path
from workbench.labels import IGNORED

TEXT_COLUMNS = (
    ("text", "pair"),
    ("text",),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("sentence",),
)
"""Columns that hold the text, or the two texts; the first that a row has all of counts."""

VALUE = "value"
"""What a regression's output is called where classes have names."""

DROPPED = "data.drop_unlabelled=true leaves such rows out"
"""The way out for rows without a class."""

HIDDEN_ENDS = "had invisible characters at the ends of their class, which were taken away"
"""What is said of such rows."""

WRITTEN = {"true": "True", "false": "False"}
"""Truth values as rows have them, and as they come out of a YAML list of names."""


@dataclass(frozen=True)
class LabelledText:
    """A text, or a pair of texts, and the name of its class."""

    texts: tuple[str, ...]
    label: str
    """Empty where the class is to be found."""
    where: str

    @property
    def text(self) -> str:
        """What the model reads: two texts on a line each."""
        return "\n".join(self.texts)


def labelled_text(row: Row, *, answered: bool = True) -> LabelledText:
    """The row's text or texts, and its class as text.

    Raises:
        DataError: A missing column, a wrong type, an empty text or class.
    """
    columns = next((names for names in TEXT_COLUMNS if all(name in row.values for name in names)), None)
    if columns is None:
        raise DataError(
            f"{row.where}: no column of text (has: {row.column_names}; name it by "
            f"{key_of('columns', row.source)}.text)"
        )
    texts = tuple(text(row, name) for name in columns)
    if not any(map(str.strip, texts)):
        raise DataError(f"{row.where}: column {row.own_name(columns[0])!r} is empty")
    return LabelledText(texts, label(row) if answered else "", row.where)


def label(row: Row) -> str:
    """The row's class as text; numbers and truth values are written out."""
    found = label_column(row, "class")
    if found is None:
        raise DataError(f"{row.where}: the class in 'label' is null ({DROPPED})")
    if not isinstance(found, str | int):
        raise DataError(
            f"{row.where}: column {row.own_name('label')!r} must be a name or a whole number, not "
            f"{short(found)}"
        )
    name = str(found).lower() if isinstance(found, bool) else clean_name(str(found))
    if not name:
        raise DataError(f"{row.where}: the class is empty ({DROPPED})")
    return name


def label_column(row: Row, kind: str) -> Any:
    """What stands in the row's column 'label'; `kind` says what is expected there.

    Raises:
        DataError: The row has no such column.
    """
    if "label" not in row.values:
        raise DataError(
            f"{row.where}: no {kind} in 'label' (has: {row.column_names}; name it by "
            f"{key_of('columns', row.source)}.label)"
        )
    return row.values["label"]


def target(row: Row) -> float:
    """The number in the row's 'label' that a regression is to meet.

    Raises:
        DataError: None, an infinite one, or the one that marks rows without a target.
    """
    found = label_column(row, "number")
    try:
        number = float(found)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(found, bool) or not math.isfinite(number) or number == IGNORED:
        raise DataError(
            f"{row.where}: column {row.own_name('label')!r} must be a number for data.regression, not "
            f"{short(found)} ({IGNORED} has another meaning)"
        )
    return number


def label_names(rows: Sequence[Row], data: DataConfig) -> list[str]:
    """The names of the classes in the order of their numbers: `data.labels`, or all found, sorted.

    Whole numbers are sorted as numbers. A regression has one output, called VALUE.

    Raises:
        DataError: A single class, which nothing can be learned from.
    """
    if data.regression:
        return [VALUE]
    names = [clean_name(name) for name in data.labels] or listed_names(data) or found_names(rows)
    say_look_alikes(names)
    if len(names) < 2:
        raise DataError(f"data.labels: only one class, {names[0]!r} (at least 2)")
    return names


def named_by_head(data: DataConfig, trained: list[str], head: str = "the head") -> DataConfig:
    """The data section with the classes, in their order, of the head that is trained further, if it has any.

    Raises:
        ConfigError: `data.labels` has other classes, or another order.
    """
    given = [VALUE] if data.regression else list(data.labels) or listed_names(data)
    if trained and given and given != trained:
        raise ConfigError(
            f"data.labels: {given!r}, but {head} was trained for {trained!r}, in this order "
            "(data.labels=[] takes these)"
        )
    return replace(data, labels=trained) if trained and not given else data


def listed_names(data: DataConfig) -> list[str]:
    """The classes of `data.labels_file`; none where none is given."""
    if not data.labels_file:
        return []
    return list(class_list(local_path(data.labels_file), "data.labels_file").names)


def found_names(rows: Sequence[Row]) -> list[str]:
    """The classes of the rows, sorted.

    Raises:
        DataError: Rows whose class says that they have none.
    """
    names = {label(row) for row in rows}
    for mark in UNLABELLED:
        if mark in names:
            places = [row.where for row in rows if label(row) == mark]
            raise DataError(
                f"{places[0]}: the class {mark!r} marks rows without a class in many data sets; "
                f"{len(places):,} rows are so: {', '.join(places[:3])} ({DROPPED}; data.labels that names it "
                "keeps it as a class)"
            )
    return sorted(names, key=number_or_name)


def number_or_name(name: str) -> tuple[int, int, str]:
    """A key that puts whole numbers first, by value."""
    is_number = re.fullmatch(r"-?\d{1,18}", name) is not None
    return (0, int(name), "") if is_number else (1, 0, name)


def label_number(name: str, names: Sequence[str], where: str) -> int:
    """The number of a class; a row may also give the number itself where `names` are given as words.

    Raises:
        DataError: No such class.
    """
    name = name if name in names else WRITTEN.get(name, name)
    if name in names:
        return list(names).index(name)
    if name.isdecimal() and not any(other.isdecimal() for other in names):
        if int(name) < len(names):
            return int(name)
        known = f"0 to {len(names) - 1}: {', '.join(names)}"
        raise DataError(f"{where}: class number {name} is out of range ({known})")
    raise DataError(f"{where}: unknown class {name!r} (known: {', '.join(names)})")


def text_ids(
    examples: Sequence[LabelledText], tokenizer: PreTrainedTokenizerBase, data: DataConfig
) -> Iterator[tuple[list[int] | None, bool]]:
    """The ids of each text between the tokenizer's special ones, and if it was cut; None: dropped.

    Raises:
        DataError: `data.max_length` leaves no room for any text.
    """
    prefix, suffix = special_frame(tokenizer)
    room = data.max_length - len(prefix) - len(suffix)
    if room < 1:
        num_special = len(prefix) + len(suffix)
        raise DataError(
            f"data.max_length: too small, {data.max_length} (the tokenizer puts {num_special} special tokens "
            "around each text)"
        )
    whole = ids_of([example.text for example in examples], tokenizer)
    for example, ids in zip(examples, whole, strict=True):
        is_long = len(ids) > room
        if is_long and data.truncation is Truncation["drop"]:
            yield None, False
            continue
        kept = cut_ids(example, ids, room, data.truncation, tokenizer) if is_long else ids
        yield [*prefix, *kept, *suffix], is_long


def cut_ids(
    example: LabelledText, ids: list[int], room: int, policy: Truncation, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """At most `room` ids of a text that is longer; of a pair, the longer text is cut until both are alike.

    Source: `longest_first` in transformers, tokenization_utils_base.py.
    """
    at_start = policy is Truncation["cut-start"]
    is_pair = len(example.texts) == 2
    first, second = pair_ids(example.texts, at_start, tokenizer) if is_pair else (ids, [])
    num_first = min(len(first), max(room - len(second), -(-room // 2)))
    num_second = min(len(second), room - num_first)
    if at_start:
        return first[len(first) - num_first :] + second[len(second) - num_second :]
    return first[:num_first] + second[:num_second]


def pair_ids(
    texts: Sequence[str], at_start: bool, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    """The ids of each of two texts; the line end between them stays where no cut reaches it."""
    first, second = (texts[0] + "\n", texts[1]) if at_start else (texts[0], "\n" + texts[1])
    segments = [Segment(first, trained=False), Segment(second, trained=True)]
    tokens = encode_segments([segments], tokenizer, [])[0]
    count = tokens.labels.count(IGNORED)
    return tokens.input_ids[:count], tokens.input_ids[count:]
