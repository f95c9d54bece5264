"""The predict section: answers to the user's prompts, or labels for the user's texts."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.names import MODELS
from workbench.config.ranges import check_ranges, number

PredictModel = Enum("PredictModel", {name: name for name in MODELS})  # type: ignore[misc]
"""Which model of the run answers."""


@dataclass(kw_only=True)
class PredictConfig:
    r"""recipe=predict: answers to your prompts, or labels for your texts.

    Example:
        python -m workbench recipe=predict run_dir=runs/NAME \
            predict.input=new.csv predict.columns.text=comment
    """

    input: str | None = None
    """File of prompts or texts: .txt with one per line, or rows as for training, with or without answers.
    Required."""
    output: str | None = None
    """File of answers: `.csv` a table that Excel opens, else JSONL. null: JSONL in the predictions of the
    run, under the name of the input file. An existing file that predict did not write is replaced with
    force=true only."""
    limit: int | None = number(None, 1, 10**12)
    """Number of rows to answer, the first ones. null: all rows."""
    columns: dict[str, str] = field(default_factory=dict)
    """Role -> column name of predict.input, as in {text: comment}. Empty: as in the training rows of the
    run."""
    model: PredictModel | None = None
    """Which model answers; trained is the model of adapter=none. null: adapter, or trained with
    adapter=none; if nothing was trained, merged, or else base."""
    max_new_tokens: int = number(128, 1, 10**6)
    """Tokens after which an answer is cut off; the answer's `finish_reason` is then `length`, else `stop`."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range.

        Raises:
            ConfigError: A number is out of its range.
        """
        check_ranges(self, "predict")
