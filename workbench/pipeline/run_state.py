"""A run while a command works on it: what its steps read, each of it read on first use and kept."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from workbench.config import Config
from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.data.classification import named_by_head
from workbench.data.holdout import HoldOut, hold_out
from workbench.data.rows import Row, load_kept_rows
from workbench.evaluation.prepare_benchmarks import check_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.models.head_labels import head_labels
from workbench.models.loading import load_tokenizer, read_config
from workbench.run_dir import RunDir


@dataclass(frozen=True)
class Run:
    """The configuration and the folder of a run, and what they name: the checks read it, the steps use it."""

    config: Config
    run_dir: RunDir

    @cached_property
    def rows(self) -> Sequence[Row]:
        """All rows of the data section in memory, or where they are many in a file; not for streamed rows.

        Raises:
            DataError: nothing there, or a malformed row.
        """
        return load_kept_rows(self.config.data, self.config.seed)

    @cached_property
    def hold_out(self) -> HoldOut:
        """The rows to train on and the rows held out.

        Raises:
            DataError: a row that can't be read, or too few rows for `data.validation_fraction`.
        """
        config = self.config
        return hold_out(self.rows, config.data, config.model.task)

    @cached_property
    def data(self) -> DataConfig:
        """The data section, its classes named by the head that a classifier goes on from, if it has one.

        Raises:
            ConfigError: `data.labels` names others, or in another order.
        """
        config = self.config
        if config.model.task is not Task.sequence_classification:
            return config.data
        head = f"the head of {config.adapter.path or config.model.path!r}"
        return named_by_head(config.data, head_labels(config.model, config.adapter.path), head)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of the model section, each time an object of the caller's own.

        Raises:
            CheckpointError: there is none, or it doesn't fit the model.
        """
        return copy(self._tokenizer)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerFast:
        return load_tokenizer(self.config.model)

    @property
    def model_config(self) -> PreTrainedConfig:
        """The configuration of the model that would be loaded.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another family.
        """
        return self._description[0]

    @property
    def model_dtype(self) -> torch.dtype:
        """The type of that model's weights."""
        return self._description[1]

    @cached_property
    def _description(self) -> tuple[PreTrainedConfig, torch.dtype]:
        return read_config(self.config.model)

    def benchmarks(self, names: Sequence[str] | None = None) -> dict[str, PreparedBenchmark]:
        """Benchmarks of the configuration, ready to be asked; None: all of them.

        Raises:
            WorkbenchError: one can't be read, or asks for what makes no sense.
        """
        found: dict[str, PreparedBenchmark] = {}
        for name in self.config.benchmarks if names is None else names:
            if name not in self._benchmarks:
                chosen = {name: self.config.benchmarks[name]}
                self._benchmarks[name] = check_benchmarks(chosen, self.config.evaluate)
            found |= self._benchmarks[name]
        return found

    @cached_property
    def _benchmarks(self) -> dict[str, dict[str, PreparedBenchmark]]:
        """Name in the configuration -> the benchmarks that it makes, as far as they have been asked for."""
        return {}
