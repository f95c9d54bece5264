"""Evaluates tasks of lm-evaluation-harness: they make prompts and scores, and this engine runs the model."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.config.evaluate import EvaluateConfig
from workbench.distributed import is_rank0
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.diagnostics import warn_of_closed_texts
from workbench.evaluation.inference.language_model import LanguageModel
from workbench.evaluation.prepared_benchmark import Outcome, PreparedBenchmark
from workbench.evaluation.tasks.requests import ChatFormat
from workbench.evaluation.tasks.select_answerer import Model

log = logging.getLogger("workbench")


GENERATING = "generate_until"
"""Output type of tasks whose answers are generated texts."""


def generating_tasks(tasks: Mapping[str, Any]) -> list[str]:
    """Return the names of the tasks whose answers are generated texts."""
    return [name for name, task in tasks.items() if task.OUTPUT_TYPE == GENERATING]


@dataclass(frozen=True)
class HarnessTasks:
    """One task of the harness, or a group with its tasks, whose scores it averages."""

    tasks: dict[str, Any]
    """Name -> lm_eval.api.task.Task."""
    group: Any = None
    """lm_eval.api.group.Group, or None for one task."""
    metrics: tuple[str, ...] = ()
    """Metrics to report, the main one first; empty for all."""
    samples: dict[str, list[int]] | None = None
    """Task -> indices of the rows to ask; None: the first `limit` rows, or all."""


@dataclass(frozen=True)
class HarnessInterviewer:
    """Asks and scores a benchmark that is a task, or a group of tasks, of lm-evaluation-harness."""

    tasks: HarnessTasks
    rule: str
    """Fingerprint of the tasks' configuration and the harness's version."""

    def main_metric(self, benchmark: PreparedBenchmark) -> str:
        """Return the first metric that the configuration names, else the first metric of the first task."""
        own_metrics = next(iter(self.tasks.tasks.values())).aggregation()
        return str(next(iter([*self.tasks.metrics, *own_metrics])))

    def generates(self, benchmark: PreparedBenchmark) -> bool:
        """Return whether some task generates texts."""
        return bool(generating_tasks(self.tasks.tasks))

    def check_chat(self, benchmark: PreparedBenchmark, chat: ChatFormat) -> None:
        """Do nothing: the harness renders its prompts itself."""

    def check(self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig) -> None:
        """Do nothing: prompts that are too long are truncated at the start, as in the harness."""

    def check_kept(
        self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, cache: AnswerCache
    ) -> bool:
        """Return False: only the harness can tell which requests the cached answers belong to."""
        return False

    def evaluate(
        self,
        benchmark: PreparedBenchmark,
        lm: Model,
        config: EvaluateConfig,
        cache: AnswerCache,
        model_name: str,
    ) -> Outcome:
        """Run the tasks on a model, and return their predictions and scores; log a warning of cut prompts.

        Raises:
            WorkbenchError: The model can't answer, or the tasks can't score the answers.
        """
        from workbench.evaluation.harness import model, scores  # these import the harness, an optional extra

        assert isinstance(lm, LanguageModel)
        warn_of_closed_texts(benchmark.name, lm)
        title, seed = f"{model_name} · {benchmark.name}", config.fewshot_seed
        harness_lm = model.HarnessLM(lm, cache, title, seed, self.tasks.samples, config.template_arguments)
        predictions, harness_scores = scores.evaluate(benchmark, self, harness_lm, config, model_name)
        num_cut = harness_lm.num_cut
        if num_cut and is_rank0():
            log.warning(
                "benchmarks.%s: %d prompts are longer than the %d tokens that fit and were truncated at the "
                "start, as in lm-evaluation-harness",
                benchmark.name,
                num_cut,
                lm.max_length,
            )
        return Outcome(predictions, harness_scores, harness_lm.num_asked, measured={"num_cut": num_cut})
