"""Scores a model in one number format, and measures its divergence from the unquantized model."""

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from workbench.config.inspection.quantization_report import NumberFormat
from workbench.evaluation import engine
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import read_predictions
from workbench.leaderboard.results import Results
from workbench.models.dtypes import dtype_name
from workbench.models.loading import load_model
from workbench.models.merging.logit_files import LogitFiles, in_files
from workbench.models.ops.prepacked_linear import prepacked
from workbench.models.quantization import stored_bytes
from workbench.models.token_divergence import TextDivergence, divergences, text_logits
from workbench.pipeline.inspection.quantization_ways import GGUF
from workbench.pipeline.quantization_report.stored_as import StoredModel, in_format
from workbench.pipeline.quantization_report.subject import Subject
from workbench.pipeline.run_state import Run

log = logging.getLogger("workbench")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Scores, size and divergence of a model in one number format."""

    number_format: NumberFormat
    results: Results
    num_bytes: int
    """Size of the weights on disk."""
    dtype: str
    """dtype of the weights that aren't quantized, such as `bfloat16`."""
    texts: list[TextDivergence]
    """Divergence on each probe text; empty: not measured."""


@dataclass(kw_only=True)
class Series:
    """Loads a model in one number format after another and measures it; the first is the reference."""

    run: Run
    subject: Subject
    benchmarks: Mapping[str, PreparedBenchmark]
    scratch: Path
    """Folder for GGUF files and logits."""
    probe: list[list[int]] = field(default_factory=list)
    """Token ids of the probe texts; empty: distributions aren't compared."""
    reference: LogitFiles | None = None
    """Files with the logits of the model that was measured first; None before, and without probe texts."""
    generation_config: Any = None
    """Generation settings of the unquantized model, which contain its end tokens."""

    def measure(self, number_format: NumberFormat) -> Measured:
        """Load the model in one number format, score it, and compare its next-token distributions.

        Predictions are written into the run's folder, and answers are cached there. The first call must be
        for the unquantized model, which becomes the reference.

        Raises:
            WorkbenchError: The model can't be loaded or asked in this number format.
        """
        quantization = self.run.config.quantization
        with in_format(self.subject, number_format, quantization, self.scratch) as how:
            model = load_model(how.model, how.quantization)
            self._end_alike(model)
            return Measured(
                number_format=number_format,
                results=self._score(model, number_format, how),
                num_bytes=how.num_bytes or stored_bytes(model),
                dtype=dtype_name(model.dtype),
                texts=self._compare(model),
            )

    def forget_reference(self) -> None:
        """Delete the files of the reference's logits; the model that is measured next is the reference."""
        for file in self.reference.files if self.reference is not None else ():
            file.unlink()
        self.reference = None

    def _end_alike(self, model: PreTrainedModel) -> None:
        """Give a model the end tokens and other generation settings of the unquantized model."""
        if self.generation_config is None:
            self.generation_config = deepcopy(model.generation_config)
        model.generation_config = deepcopy(self.generation_config)

    def _score(self, model: PreTrainedModel, number_format: NumberFormat, how: StoredModel) -> Results:
        """Score the model; answers are cached, so that a killed report continues where it stopped."""
        name, run_dir = shown_name(number_format), self.run.run_dir
        answers = run_dir.quantization / self.subject.name / number_format.value
        evaluation = engine.evaluate(
            model,
            self.subject.tokenizer,
            self.benchmarks,
            self.run.config.evaluate,
            model_name=name,
            fingerprint=how.fingerprint,
            predictions=lambda _, benchmark: answers / f"{benchmark}.jsonl",
            cache=run_dir.cache,
            renew=self.run.config.force,
            decoding=prepacked,
        )
        predictions = {key: read_predictions(answers / f"{key}.jsonl") for key in self.benchmarks}
        return Results(
            model=name, scores=evaluation.scores, predictions=predictions, measured=evaluation.measured
        )

    def _compare(self, model: PreTrainedModel) -> list[TextDivergence]:
        """Return the divergence of the next-token distributions from the reference on each probe text.

        The first model becomes the reference: its logits are written to files.
        """
        if not self.probe:
            return []
        rows = text_logits(model, self.probe)
        if self.reference is None:
            self.reference = in_files(self.scratch, "reference", rows)
            return divergences(self.reference, self.reference)
        return divergences(self.reference, rows)


def shown_name(number_format: NumberFormat) -> str:
    """Return the name of a number format for tables, such as `nf4` or `q8_0 (GGUF)`."""
    return f"{number_format.value} (GGUF)" if number_format in GGUF else number_format.value
