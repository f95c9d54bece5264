"""Loads tasks of lm-evaluation-harness and checks them before a model is loaded."""

import io
import json
import logging
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.config.benchmark import BenchmarkConfig, ProtocolConfig, Sample
from workbench.config.evaluate import EvaluateConfig
from workbench.config.names import check_file_name
from workbench.contexts import forked_random_state
from workbench.errors import ConfigError
from workbench.evaluation.benchmarks.language import language
from workbench.evaluation.benchmarks.list_checks import check_ignored, check_lists
from workbench.evaluation.benchmarks.sample import sampled
from workbench.evaluation.harness.code_check import check_files, check_metrics
from workbench.evaluation.harness.examples import read_examples, task_errors
from workbench.evaluation.harness.filters import bound_filters
from workbench.evaluation.harness.interviewer import (
    GENERATING,
    HarnessInterviewer,
    HarnessTasks,
    generating_tasks,
)
from workbench.evaluation.harness.item_scores import bound_totals, item_id
from workbench.evaluation.harness.limits import limits, sampling_options
from workbench.evaluation.harness.templates import bound_templates
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.run_dir import fingerprint

_RANDOM_SEED, _NUMPY_SEED, _TORCH_SEED = 0, 1234, 1234
"""Seeds of the global generators in the harness; some tasks shuffle with them."""
MOST_REPEATS = 1000
"""Largest number of answers to one item that a task may ask for."""
_ANSWERS_VERSION = 2
"""Increased when answers to tasks end or are encoded in another way."""
log = logging.getLogger("workbench")


def prepare(name: str, config: BenchmarkConfig, evaluate: EvaluateConfig) -> dict[str, PreparedBenchmark]:
    """Load the tasks that a benchmark names, and return each as a benchmark `NAME.TASK`.

    A group of tasks with a common score is one benchmark, `NAME.GROUP`. The harness may load data sets from
    the Hub.

    Raises:
        ConfigError: The harness is not installed, a task is unknown, or this engine doesn't support it.
        DataError: A task's rows can't be loaded.
    """
    if util.find_spec("lm_eval") is None:
        raise ConfigError(
            f"benchmarks.{name}: lm-evaluation-harness is not installed (pip install "
            "'open-llama-workbench[lm-eval]')"
        )
    check_lists(name, config)
    check_ignored(name, config)
    if not config.tasks:
        raise ConfigError(f"benchmarks.{name}.tasks: empty (as in 'benchmarks.{name}.tasks=[hellaswag]')")
    with silenced():
        loaded = _load(name, config)
        for selected in loaded.values():
            for task in selected.tasks.values():
                _set_up(task, config, evaluate, f"benchmarks.{name}.tasks: {task.task_name!r}")
        if config.gen_kwargs and not any(generating_tasks(selected.tasks) for selected in loaded.values()):
            raise ConfigError(
                f"benchmarks.{name}.gen_kwargs: has no effect, none of the tasks generates texts"
            )
        for key in loaded:
            check_file_name(f"benchmarks.{name}.tasks", f"{name}.{key}")
        return {
            f"{name}.{key}": _prepare(f"{name}.{key}", selected, config, evaluate)
            for key, selected in loaded.items()
        }


@contextmanager
def silenced() -> Iterator[None]:
    """In the `with` block, discard all output to stderr, and seed Python's, numpy's and torch's generators.

    The generators' states are restored afterwards. The harness's logger stays at the level CRITICAL.
    """
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    states = random.getstate(), np.random.get_state()
    try:
        with redirect_stderr(io.StringIO()), forked_random_state():
            random.seed(_RANDOM_SEED)
            np.random.seed(_NUMPY_SEED)
            torch.manual_seed(_TORCH_SEED)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@lru_cache(maxsize=4)
def _manager(include_path: str | None, with_defaults: bool, metadata_json: str) -> Any:
    from lm_eval.tasks import TaskManager

    bound_templates()
    if with_defaults:
        log.info("lm-eval: reading the list of the harness's tasks")
    told = json.loads(metadata_json)
    return TaskManager(include_path=include_path, include_defaults=with_defaults, metadata=told)


def _load(name: str, config: BenchmarkConfig) -> dict[str, HarnessTasks]:
    """Return name -> a task, or a group of tasks with a common score, of those that a benchmark names.

    A group that defines no common score is split into its tasks.
    """
    if config.include_path and not Path(config.include_path).is_dir():
        raise ConfigError(f"benchmarks.{name}.include_path: no such folder {config.include_path!r}")
    check_files(name, config)
    manager, names = _match_names(name, config)
    check_metrics(name, manager, names)
    metrics = tuple(config.metrics)
    by_name: dict[str, HarnessTasks] = {}
    for key in names:
        loaded = _load_name(manager, key, f"benchmarks.{name}.tasks: {key!r}")
        group = loaded["groups"].get(key)
        if group is not None and group.has_aggregation:
            by_name[key] = HarnessTasks(dict(loaded["tasks"]), group, metrics)
        else:
            by_name |= {k: HarnessTasks({k: task}, None, metrics) for k, task in loaded["tasks"].items()}
    return by_name


def _match_names(name: str, config: BenchmarkConfig) -> tuple[Any, list[str]]:
    """Return the harness's task manager, and the names in it that match `tasks` of the configuration.

    Raises:
        ConfigError: A name or pattern matches nothing.
    """
    unknown = ""
    for with_defaults in (False, True) if config.include_path else (True,):
        manager = _manager(config.include_path, with_defaults, json.dumps(config.metadata, sort_keys=True))
        names: list[str] = []
        for pattern in config.tasks:
            matching = [pattern] if Path(pattern).is_file() else manager.match_tasks([pattern])
            unknown = "" if matching else pattern
            if unknown:
                break
            names += matching
        else:
            return manager, list(dict.fromkeys(names))
    raise ConfigError(
        f"benchmarks.{name}.tasks: unknown task {unknown!r} (`lm-eval ls tasks` lists them; "
        f"benchmarks.{name}.include_path names a folder of your own)"
    )


def _load_name(manager: Any, key: str, where: str) -> Any:
    """Load the task or group that a name means; return the harness's mapping with keys `tasks` and `groups`.

    Raises:
        DataError: The task or group can't be loaded; the message begins with `where`.
    """
    with task_errors(f"{where}: can't be loaded"):
        return manager.load([key])


def _set_up(task: Any, config: BenchmarkConfig, evaluate: EvaluateConfig, where: str) -> None:
    """Check that a task is supported, and set its number of few-shot examples, unless the task fixes it at 0.

    Also set its generation options, limit the time that the task's regular expressions may take, and let
    overflowing scores be infinite.

    Raises:
        ConfigError: This engine doesn't support the task.
        DataError: A filter of the task can't be built.
    """
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(f"{where}: runs programs that the model writes, not supported (name other tasks)")
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"{where}: has images or audio, not supported (name other tasks)")
    own = task.get_config("num_fewshot")
    if own is None or (config.num_fewshot is not None and own != 0):
        task.set_config(key="num_fewshot", value=config.num_fewshot or 0)
    bound_totals(task)
    bound_filters(task, where)
    if (repeats := task.get_config("repeats") or 1) > MOST_REPEATS:
        raise ConfigError(f"{where}: repeats={repeats} (at most {MOST_REPEATS:,} answers to each item)")
    if task.OUTPUT_TYPE == GENERATING:
        options = (
            (task.get_config("generation_kwargs") or {}) | config.gen_kwargs | sampling_options(evaluate)
        )
        limits(options, where)
        task.set_config(key="generation_kwargs", value=options)


def _prepare(
    name: str, selected: HarnessTasks, config: BenchmarkConfig, evaluate: EvaluateConfig
) -> PreparedBenchmark:
    """Return a task, or a group of tasks, as a benchmark.

    Raises:
        ConfigError: The tasks don't have a requested metric.
        DataError: The prompts can't be rendered.
    """
    selected = replace(selected, samples=_samples(name, selected, config))
    rows = selected.samples or {}
    examples = [
        example
        for key, task in selected.tasks.items()
        for example in read_examples(
            task, key if selected.group else "", rows.get(key), config.limit, evaluate.fewshot_seed
        )
    ]
    known = sorted({metric for task in selected.tasks.values() for metric in task.aggregation()})
    for metric in selected.metrics:
        if metric not in known:
            raise ConfigError(
                f"benchmarks.{name}.metrics: unknown metric {metric!r} (known: {', '.join(known)})"
            )
    rules = {key: task.dump_config() for key, task in selected.tasks.items()}
    rule = re.sub(r" at 0x\w+", "", json.dumps(rules, sort_keys=True, default=str))
    version = metadata.version("lm_eval")
    return PreparedBenchmark(
        name=name,
        config=replace(
            config,
            language=config.language or language(example.questions[0] for example in examples),
            protocol=f"lm-eval {version}",
            protocols={f"lm-eval {version}": ProtocolConfig()},
            num_fewshot=max(task.get_config("num_fewshot") for task in selected.tasks.values()),
        ),
        examples=examples,
        warnings=[],
        interviewer=HarnessInterviewer(
            selected, fingerprint([version, rule, selected.metrics, _ANSWERS_VERSION])
        ),
        num_total=sum(len(task.eval_docs) for task in selected.tasks.values()),
    )


def _samples(name: str, selected: HarnessTasks, config: BenchmarkConfig) -> dict[str, list[int]] | None:
    """Return task -> indices of the rows that `limit` selects by the hash of their ids.

    None: there is no limit, or `sample: first` selects the first rows.
    """
    if config.limit is None or config.sample is Sample.first:
        return None
    samples: dict[str, list[int]] = {}
    for key, task in selected.tasks.items():
        subset = key if selected.group else ""
        ids = [item_id(subset, index) for index in range(len(task.eval_docs))]
        samples[key] = sampled(name, subset, ids, config.limit, config.sample)
    return samples
