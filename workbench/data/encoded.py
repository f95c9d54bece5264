"""Builds the Trainer's data set from encoded examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets

from workbench.config.data import DataConfig
from workbench.config.names import IGNORED
from workbench.data.example import Example, predictable
from workbench.data.packing import positions
from workbench.data.row_counts import Account
from workbench.errors import DataError


@dataclass(frozen=True)
class Encoded:
    """Data set for the Trainer, and the counts of the rows that it was made from.

    Columns: input_ids; labels (one per token for a causal model, one class index or number for a classifier);
    length in tokens; row, a unique number; where, the file and line of the row. Packed rows have position_ids
    too, which count from 0 in each text.
    """

    dataset: datasets.Dataset
    account: Account


def as_dataset(
    examples: Sequence[Example], data: DataConfig, account: Account, first: int = 0
) -> datasets.Dataset:
    """Build a data set in memory from examples, with the columns that `Encoded` lists.

    The label of each text's first token becomes -100, because no token before it predicts it.

    Args:
        examples: All of one kind: packed or not, for a causal model or a classifier.
        data: The section `data` of the configuration, whose paths the error message names.
        account: Gets `num_examples`, `num_tokens` and `num_trained`; its dropped rows explain the error.
        first: Number of the first example in the column `row`.

    Raises:
        DataError: There are no examples.
    """
    if not examples:
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in account.dropped.items())
        paths = ", ".join(map(repr, data.paths()))
        raise DataError(f"data.path: nothing of {paths} is left to train on ({reasons or 'empty texts'})")
    kinds = {int: datasets.Value("int64"), float: datasets.Value("float32")}
    account.num_examples = len(examples)
    account.num_tokens = sum(len(example.input_ids) for example in examples)
    labels = [predictable(example) for example in examples]
    account.num_trained = sum(
        len(label) - label.count(IGNORED) if isinstance(label, list) else 1 for label in labels
    )
    ids = datasets.List(datasets.Value("int32"))
    columns = {
        "input_ids": ids,
        "labels": kinds.get(type(examples[0].labels), ids),
        "length": datasets.Value("int32"),
        "row": datasets.Value("int64"),
        "where": datasets.Value("string"),
    }
    values: dict[str, Sequence[object]] = {
        "input_ids": [example.input_ids for example in examples],
        "labels": labels,
        "length": [len(example.input_ids) for example in examples],
        "row": list(range(first, first + len(examples))),
        "where": [example.where for example in examples],
    }
    if examples[0].lengths is not None:
        columns["position_ids"] = ids
        values["position_ids"] = [positions(example.lengths or []) for example in examples]
    return datasets.Dataset.from_dict(values, features=datasets.Features(columns))
