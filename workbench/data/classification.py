"""Reads and encodes rows for classifiers: a text, or a pair of texts, with a class or a number."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig, Truncation
from workbench.config.names import IGNORED, key_of
from workbench.data.classes import UNLABELLED, class_list, clean_name, say_look_alikes
from workbench.data.formats import short, text
from workbench.data.rows import Row
from workbench.data.tokens.segments import Segment, encode_segments, ids_of, special_frame
from workbench.errors import ConfigError, DataError
from workbench.files import local_path

TEXT_COLUMNS = (
    ("text", "pair"),
    ("text",),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("sentence",),
)
"""Names of text columns; the first entry of which a row has all columns is used."""

VALUE = "value"
"""Name of a regression's only output, where a classifier has the names of classes."""

DROPPED = "data.drop_unlabelled=true leaves such rows out"
"""Advice in error messages about rows without a class."""

HIDDEN_ENDS = "had invisible characters at the ends of their class, which were removed"
"""Note on rows whose class begins or ends with invisible characters."""

WRITTEN = {"true": "True", "false": "False"}
"""Boolean as `label` writes it -> as YAML turns it into a name in `data.labels`."""


@dataclass(frozen=True)
class LabelledText:
    """The text or the pair of texts of one row, with the name of the row's class."""

    texts: tuple[str, ...]
    label: str
    """Name of the class; empty if the class wasn't read: for prediction, and for a regression."""
    where: str
    """File and line of the row."""

    @property
    def text(self) -> str:
        """Model input: the text, or both texts of a pair on two lines."""
        return "\n".join(self.texts)


def labelled_text(row: Row, *, answered: bool = True) -> LabelledText:
    """Read the text or texts of a row, and the name of its class; without `answered` the class isn't read.

    Raises:
        DataError: A column is missing or has a wrong type, all texts are blank, or the class is empty.
    """
    columns = next((names for names in TEXT_COLUMNS if all(name in row.values for name in names)), None)
    if columns is None:
        raise DataError(
            f"{row.where}: no text column (has: {row.column_names}; name yours with "
            f"{key_of('columns', row.source)}.text)"
        )
    texts = tuple(text(row, name) for name in columns)
    if not any(map(str.strip, texts)):
        raise DataError(
            f"{row.where}: column {row.own_name(columns[0])!r} is empty (fill it, or delete the row)"
        )
    return LabelledText(texts, label(row) if answered else "", row.where)


def label(row: Row) -> str:
    """Read the name of a row's class from the column 'label'; 3 becomes "3", and True becomes "true".

    Raises:
        DataError: The column is missing, null or blank, or is not a string, an integer or a boolean.
    """
    value = label_column(row, "class")
    if value is None:
        raise DataError(f"{row.where}: the class in 'label' is null ({DROPPED})")
    if not isinstance(value, str | int):
        raise DataError(
            f"{row.where}: column {row.own_name('label')!r} must be a name or an integer, not {short(value)}"
        )
    name = str(value).lower() if isinstance(value, bool) else clean_name(str(value))
    if not name:
        raise DataError(f"{row.where}: the class is empty ({DROPPED})")
    return name


def label_column(row: Row, kind: str) -> Any:
    """Return a row's value in the column 'label', which may be None.

    Args:
        row: The row.
        kind: What the column should have, for the error message: "class" or "number".

    Raises:
        DataError: The row has no column 'label'.
    """
    if "label" not in row.values:
        raise DataError(
            f"{row.where_named}: no column 'label' with the {kind} (has: {row.column_names}; name yours with "
            f"{key_of('columns', row.source)}.label)"
        )
    return row.values["label"]


def target(row: Row) -> float:
    """Read the number that a regression should predict for a row, from the column 'label'.

    A string such as "1.5" counts as a number.

    Raises:
        DataError: The column is missing, its value is not a finite number, or it is -100, which marks rows
            without a target.
    """
    value = label_column(row, "number")
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number == IGNORED:
        raise DataError(
            f"{row.where}: column {row.own_name('label')!r} must be a number for data.regression, not "
            f"{short(value)} ({IGNORED} marks rows without a target)"
        )
    return number


def label_names(rows: Sequence[Row], data: DataConfig) -> list[str]:
    """Return the names of the classes in the order of their indices.

    They are `data.labels`, else those in `data.labels_file`, else those of the rows, sorted: integers by
    value, then other names. For a regression the result is [VALUE]. Names that look alike are logged.

    Raises:
        DataError: There is only one class, the file can't be read, or a row's class can't be read or is a
            mark that means no class, as `names_in_rows` says.
    """
    if data.regression:
        return [VALUE]
    names = [clean_name(name) for name in data.labels] or listed_names(data) or names_in_rows(rows)
    say_look_alikes(names)
    if len(names) < 2:
        raise DataError(f"data.labels: only one class, {names[0]!r} (at least 2)")
    return names


def named_by_head(data: DataConfig, trained: list[str], head: str = "the head") -> DataConfig:
    """Return `data` with the class names of an existing classifier head as `data.labels`.

    If the user names classes (`data.labels` or `data.labels_file`), `data` itself is returned, and they must
    be those of the head in the same order; so must the VALUE of a regression.

    Args:
        data: The section `data` of the configuration.
        trained: Names of the head's classes; if empty, `data` itself is returned.
        head: Name of the head in the error message.

    Raises:
        ConfigError: The user's classes differ from the head's, or have another order.
        DataError: `data.labels_file` can't be read.
    """
    given = [VALUE] if data.regression else list(data.labels) or listed_names(data)
    if trained and given and given != trained:
        raise ConfigError(
            f"data.labels: {given!r}, but {head} was trained for {trained!r}, in this order "
            "(data.labels=[] takes these)"
        )
    return replace(data, labels=trained) if trained and not given else data


def listed_names(data: DataConfig) -> list[str]:
    """Return the class names of `data.labels_file`, an empty list if the key is not set.

    Raises:
        DataError: The file can't be read, as `class_list` says.
    """
    if not data.labels_file:
        return []
    return list(class_list(local_path(data.labels_file), "data.labels_file").names)


def names_in_rows(rows: Sequence[Row]) -> list[str]:
    """Return the distinct class names of rows, sorted: integers by value, then other names.

    Raises:
        DataError: A row's class can't be read, or is a mark of UNLABELLED (such as -1), which means no class.
    """
    names = {label(row) for row in rows}
    for mark in UNLABELLED:
        if mark in names:
            positions = [row.where for row in rows if label(row) == mark]
            raise DataError(
                f"{positions[0]}: class {mark!r} marks rows without a class in many data sets; "
                f"{len(positions):,} rows have it: {', '.join(positions[:3])} ({DROPPED}; list it in "
                "data.labels to keep it as a class)"
            )
    return sorted(names, key=number_or_name)


def number_or_name(name: str) -> tuple[int, int, str]:
    """Return a sort key of class names: integers come first, by value, then other names."""
    is_number = re.fullmatch(r"-?\d{1,18}", name) is not None
    return (0, int(name), "") if is_number else (1, 0, name)


def label_number(name: str, names: Sequence[str], where: str) -> int:
    """Return the index of the class `name` in `names`.

    If no class name is a number, `name` may also be the index itself, as "2". "true" and "false" also stand
    for "True" and "False".

    Raises:
        DataError: The class is unknown, or the index out of range; the message begins with `where`.
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
    """Yield (ids with special tokens, whether they were cut to `data.max_length`) for each example's text.

    With `data.truncation=drop`, a text that is too long yields (None, False).

    Raises:
        DataError: `data.max_length` leaves no room for text.
    """
    prefix, suffix = special_frame(tokenizer)
    max_tokens = data.max_length - len(prefix) - len(suffix)
    if max_tokens < 1:
        num_special = len(prefix) + len(suffix)
        raise DataError(
            f"data.max_length: {data.max_length} is too small (the tokenizer adds {num_special} special "
            "tokens to each text)"
        )
    encoded = ids_of([example.text for example in examples], tokenizer)
    for example, ids in zip(examples, encoded, strict=True):
        is_long = len(ids) > max_tokens
        if is_long and data.truncation is Truncation["drop"]:
            yield None, False
            continue
        if is_long:
            ids = truncated_ids(example, ids, max_tokens, data.truncation, tokenizer)
        yield [*prefix, *ids, *suffix], is_long


def truncated_ids(
    example: LabelledText,
    ids: list[int],
    max_tokens: int,
    policy: Truncation,
    tokenizer: PreTrainedTokenizerBase,
) -> list[int]:
    """Return the first or (policy `cut-start`) the last `max_tokens` of `ids`, the ids of `example.text`.

    Of a pair, each text is cut: first the longer one to the length of the other, then both equally.
    Source: `longest_first` in transformers, tokenization_utils_base.py.
    """
    at_start = policy is Truncation["cut-start"]
    is_pair = len(example.texts) == 2
    first, second = pair_ids(example.texts, at_start, tokenizer) if is_pair else (ids, [])
    num_first = min(len(first), max(max_tokens - len(second), -(-max_tokens // 2)))
    num_second = min(len(second), max_tokens - num_first)
    if at_start:
        return first[len(first) - num_first :] + second[len(second) - num_second :]
    return first[:num_first] + second[:num_second]


def pair_ids(
    texts: Sequence[str], at_start: bool, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    """Encode the two texts of a pair, joined by a newline; return (ids of the first, ids of the second).

    The newline belongs to the first text if `at_start` (texts are cut at their starts), else to the second:
    so it is the last token to be cut off.
    """
    first, second = (texts[0] + "\n", texts[1]) if at_start else (texts[0], "\n" + texts[1])
    segments = [Segment(first, trained=False), Segment(second, trained=True)]
    tokens = encode_segments([segments], tokenizer, [])[0]
    count = tokens.labels.count(IGNORED)
    return tokens.input_ids[:count], tokens.input_ids[count:]
