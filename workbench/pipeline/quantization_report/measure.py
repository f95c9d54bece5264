"""Scores a model held in one way, and measures how far its distributions are from the unquantized model's."""

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from workbench.api.evaluation import score_model
from workbench.config.inspection.quantization_report import HeldAs
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import read_predictions
from workbench.leaderboard.results import Results
from workbench.models.dtypes import dtype_name
from workbench.models.loading import load_model
from workbench.models.merging.logit_files import LogitFiles, in_files
from workbench.models.quantization import stored_bytes
from workbench.models.token_divergence import TextDivergence, divergences, text_logits
from workbench.pipeline.inspection.quantization_ways import GGUF
from workbench.pipeline.quantization_report.stored_as import Held, held
from workbench.pipeline.quantization_report.subject import Subject
from workbench.pipeline.run_state import Run

log = logging.getLogger("workbench")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found about a model held in one way."""

    held_as: HeldAs
    results: Results
    num_bytes: int
    """Size of the weights on disk."""
    dtype: str
    """Number format of what isn't quantized."""
    texts: list[TextDivergence]
    """Probe text by probe text; empty: not compared."""


@dataclass(kw_only=True)
class Series:
    """One model, held in several ways one after the other; the first is the reference."""

    run: Run
    subject: Subject
    benchmarks: Mapping[str, PreparedBenchmark]
    scratch: Path
    probe: list[list[int]] = field(default_factory=list)
    """Token ids of the probe texts; empty: distributions aren't compared."""
    reference: LogitFiles | None = None
    """The unquantized model's logits, once it was measured."""
    generation_config: Any = None
    """The unquantized model's, which says where answers end."""

    def measure(self, held_as: HeldAs) -> Measured:
        """Load the model in one way, score it, and compare its distributions.

        Raises:
            WorkbenchError: The model can't be held or asked so.
        """
        quantization = self.run.config.quantization
        with held(self.subject, held_as, quantization, self.scratch) as how:
            model = load_model(how.model, how.quantization)
            self._end_alike(model)
            return Measured(
                held_as=held_as,
                results=self._score(model, held_as, how),
                num_bytes=how.num_bytes or stored_bytes(model),
                dtype=dtype_name(model.dtype),
                texts=self._compare(model),
            )

    def forget_reference(self) -> None:
        """Delete the unquantized model's distributions."""
        for file in self.reference.files if self.reference is not None else ():
            file.unlink()
        self.reference = None

    def _end_alike(self, model: PreTrainedModel) -> None:
        """Let answers end as the unquantized model's do."""
        if self.generation_config is None:
            self.generation_config = deepcopy(model.generation_config)
        model.generation_config = deepcopy(self.generation_config)

    def _score(self, model: PreTrainedModel, held_as: HeldAs, how: Held) -> Results:
        """Score the model; answers are cached, so that a report that was killed goes on."""
        name, run_dir = shown_name(held_as), self.run.run_dir
        answers = run_dir.quantization / self.subject.name / held_as.value
        evaluation = score_model(
            model,
            self.subject.tokenizer,
            self.benchmarks,
            self.run.config.evaluate,
            name,
            fingerprint=how.fingerprint,
            predictions=lambda _, benchmark: answers / f"{benchmark}.jsonl",
            cache=run_dir.cache,
            renew=self.run.config.force,
        )
        predictions = {key: read_predictions(answers / f"{key}.jsonl") for key in self.benchmarks}
        return Results(
            model=name, scores=evaluation.scores, predictions=predictions, measured=evaluation.measured
        )

    def _compare(self, model: PreTrainedModel) -> list[TextDivergence]:
        """Compare next-token distributions with the reference's, which are kept in files."""
        if not self.probe:
            return []
        rows = text_logits(model, self.probe)
        if self.reference is None:
            self.reference = in_files(self.scratch, "reference", rows)
            return divergences(self.reference, self.reference)
        return divergences(self.reference, rows)


def shown_name(held_as: HeldAs) -> str:
    """Return the name of a way to hold a model, as tables show it."""
    return f"{held_as.value} (GGUF)" if held_as in GGUF else held_as.value
