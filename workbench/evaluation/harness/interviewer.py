"""Asks a model tasks of lm-evaluation-harness; the tasks ask and judge, and this project answers."""

import logging
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.config.evaluate import EvaluateConfig
from workbench.distributed import is_rank0
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.diagnostics import warn_of_closed_texts
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.prepared_benchmark import Outcome, PreparedBenchmark
from workbench.evaluation.tasks.select_answerer import Model

log = logging.getLogger("workbench")


@dataclass(frozen=True)
class HarnessTasks:
    """One task of the harness, or the tasks of a group that averages them."""

    tasks: dict[str, Any]
    """Name -> lm_eval.api.task.Task."""
    group: Any = None
    """lm_eval.api.group.Group, or None for one task."""
    metrics: tuple[str, ...] = ()
    """Metrics to report, the main one first; empty for all."""
    samples: dict[str, list[int]] | None = None
    """Task -> numbers of the rows that are asked; None: `limit` takes the first ones, or there is none."""


@dataclass(frozen=True)
class HarnessInterviewer:
    """The interviewer of a task or a group of tasks."""

    tasks: HarnessTasks
    rule: str
    """Fingerprint of the tasks' configuration and of the harness's version."""

    def main_metric(self, benchmark: PreparedBenchmark) -> str:
        """The first metric that is asked for, else the first that the first task has."""
        of_task = next(iter(self.tasks.tasks.values())).aggregation()
        return str(next(iter([*self.tasks.metrics, *of_task])))

    def generates(self, benchmark: PreparedBenchmark) -> bool:
        """Whether some answers may be generated texts: a group may hold such tasks."""
        return True

    def check_chat(self, benchmark: PreparedBenchmark, tokenizer: PreTrainedTokenizerBase) -> None:
        """Do nothing: the harness writes its prompts itself."""

    def check(self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig) -> None:
        """Do nothing: prompts that are too long lose their beginning, as in the harness."""

    def judged(
        self,
        benchmark: PreparedBenchmark,
        lm: Model,
        config: EvaluateConfig,
        kept: AnswerCache,
        model_name: str,
    ) -> Outcome:
        """The answers, asked and judged by the tasks.

        Raises:
            WorkbenchError: the model can't answer, or the tasks can't judge the answers.
        """
        from workbench.evaluation.harness import model, scores  # these import the harness, an optional extra

        assert isinstance(lm, TransformersLM)
        warn_of_closed_texts(benchmark.name, lm)
        title, seed = f"{model_name} · {benchmark.name}", config.fewshot_seed
        asking_lm = model.HarnessLM(lm, kept, title, seed, self.tasks.samples)
        predictions, found = scores.evaluate(benchmark, self, asking_lm, config, model_name)
        if asking_lm.num_cut and is_rank0():
            log.warning(
                "benchmarks.%s: %d prompts are longer than the %d tokens that fit and lost their beginning, "
                "as in lm-evaluation-harness",
                benchmark.name,
                asking_lm.num_cut,
                lm.max_length,
            )
        return Outcome(predictions, found, asking_lm.num_asked, measured={"num_cut": asking_lm.num_cut})
