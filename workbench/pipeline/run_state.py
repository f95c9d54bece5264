"""A run while a command runs its steps: configuration, folder, and inputs that are read on first use."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from workbench.config import Config
from workbench.config.data import DataConfig
from workbench.machine import resident_bytes
from workbench.models.loading import load_tokenizer, read_config
from workbench.run_dir import RunDir

if TYPE_CHECKING:  # the libraries of rows and metrics take seconds, and not all steps read rows or benchmarks
    from workbench.data.holdout import HoldOut
    from workbench.data.rows import Row
    from workbench.evaluation.prepared_benchmark import PreparedBenchmark


@dataclass(frozen=True)
class Run:
    """A run's configuration and folder, and the rows, tokenizer and benchmarks that the configuration names.

    The checks before the first step read these, and the steps use them again.
    """

    config: Config
    run_dir: RunDir
    bytes_at_start: int = field(default_factory=resident_bytes)
    """Resident memory of the process before rows and their libraries are read."""

    @cached_property
    def rows(self) -> "Sequence[Row]":
        """All rows of the data section, in memory or, if there are many, in a file; not for streamed rows.

        Raises:
            DataError, ConfigError, DeviceError: As `load_kept_rows` says.
        """
        from workbench.data.rows import load_kept_rows

        return load_kept_rows(self.config.data, self.config.seed)

    @cached_property
    def hold_out(self) -> "HoldOut":
        """The rows to train on and the rows held out.

        Raises:
            DataError: A row can't be read, or there are too few rows for `data.validation_fraction`.
        """
        from workbench.data.holdout import hold_out

        config = self.config
        return hold_out(self.rows, config.data, config.model.task)

    @cached_property
    def data(self) -> DataConfig:
        """The data section; `labels` has the classes of the head that a classifier starts from, if any.

        Raises:
            ConfigError: The user named other classes than the head's, or another order.
        """
        from workbench.api.examples import name_classes

        return name_classes(self.config.data, self.config.model, self.config.adapter.path)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A shallow copy of the model section's tokenizer.

        The caller may set its chat template, but must not change vocabulary and special tokens, which all
        copies share.

        Raises:
            CheckpointError: There is no tokenizer, or it doesn't fit the model.
        """
        return copy(self._tokenizer)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerFast:
        return load_tokenizer(self.config.model)

    @property
    def model_config(self) -> PreTrainedConfig:
        """The configuration of the model at `model.path`, or of the new one that `model.init` describes.

        Raises:
            CheckpointError: The checkpoint is damaged, or its architecture isn't supported.
        """
        return self._description[0]

    @property
    def model_dtype(self) -> torch.dtype:
        """The dtype of the weights of the model that `model_config` describes."""
        return self._description[1]

    @cached_property
    def _description(self) -> tuple[PreTrainedConfig, torch.dtype]:
        return read_config(self.config.model)

    def benchmarks(self, names: Sequence[str] | None = None) -> "dict[str, PreparedBenchmark]":
        """Return benchmarks of the configuration by name, with their items; each is read once and kept.

        An entry for tasks of lm-eval can give several benchmarks, each under a name of its own.

        Args:
            names: Names in the configuration; None: all benchmarks.

        Raises:
            WorkbenchError: A benchmark can't be read, or its settings are invalid.
        """
        from workbench.evaluation.prepare_benchmarks import check_effects, prepare_each

        prepared: dict[str, PreparedBenchmark] = {}
        for name in self.config.benchmarks if names is None else names:
            if name not in self._benchmarks:
                chosen = {name: self.config.benchmarks[name]}
                self._benchmarks[name] = prepare_each(chosen, self.config.evaluate)
            prepared |= self._benchmarks[name]
        if names is None:
            check_effects(prepared, self.config.evaluate)
        return prepared

    @cached_property
    def _benchmarks(self) -> "dict[str, dict[str, PreparedBenchmark]]":
        """Name in the configuration -> prepared benchmarks; a benchmark of lm-eval can become several."""
        return {}
