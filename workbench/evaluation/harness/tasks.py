"""Loads and checks tasks of lm-evaluation-harness before any model is loaded."""

import io
import json
import logging
import pickle
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.config.benchmark import BenchmarkConfig, ProtocolConfig, Sample
from workbench.config.evaluate import EvaluateConfig
from workbench.config.names import check_file_name
from workbench.errors import ConfigError, DataError, first_line
from workbench.evaluation.benchmarks.list_checks import check_ignored, check_lists
from workbench.evaluation.benchmarks.sample import sampled
from workbench.evaluation.harness.code import check_files, check_metrics
from workbench.evaluation.harness.filters import bound_filters
from workbench.evaluation.harness.item_scores import bound_totals
from workbench.evaluation.harness.limits import limits
from workbench.evaluation.harness.templates import bound_templates
from workbench.evaluation.records import Example, PreparedBenchmark
from workbench.run_dir import fingerprint

_HAN_SHARE = 0.2
"""Smallest share of Chinese characters among the letters of Chinese questions."""
_RANDOM_SEED, _NUMPY_SEED, _TORCH_SEED = 0, 1234, 1234
"""The harness's seeds of the global random generators, by which some tasks shuffle."""
MOST_REPEATS = 1000
"""Largest number of answers to one item."""
_ANSWERS_VERSION = 2
"""Raised when the encoding or the end of answers to tasks changes."""
log = logging.getLogger("workbench")


@dataclass(frozen=True)
class HarnessTasks:
    """Single task of the harness, or the tasks of a group with their average."""

    tasks: dict[str, Any]
    """Name -> lm_eval.api.task.Task."""
    group: Any = None
    """lm_eval.api.group.Group, or None for one task."""
    metrics: tuple[str, ...] = ()
    """Metrics to report, the main one first; empty for all."""
    samples: dict[str, list[int]] | None = None
    """Task -> indices of the selected rows; None for the first `limit` rows or all rows."""


def prepare(name: str, config: BenchmarkConfig, evaluate: EvaluateConfig) -> dict[str, PreparedBenchmark]:
    """Return one benchmark `NAME.TASK` for each task that a benchmark names.

    Raises:
        ConfigError: The harness is not installed, a task is unknown, or this engine can't ask it.
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
        raise ConfigError(
            f"benchmarks.{name}.tasks: empty (name tasks, as in 'benchmarks.{name}.tasks=[hellaswag]')"
        )
    with quietly():
        loaded = _load(name, config)
        for tasks in loaded.values():
            for task in tasks.tasks.values():
                _set_up(task, config.num_fewshot, f"benchmarks.{name}.tasks: {task.task_name!r}")
        for key in loaded:
            check_file_name(f"benchmarks.{name}.tasks", f"{name}.{key}")
        return {
            f"{name}.{key}": _prepared(f"{name}.{key}", tasks, config, evaluate)
            for key, tasks in loaded.items()
        }


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the harness's progress bars and log, seed the random states and restore them afterwards."""
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    states = random.getstate(), np.random.get_state()
    try:
        with redirect_stderr(io.StringIO()), torch.random.fork_rng():
            random.seed(_RANDOM_SEED)
            np.random.seed(_NUMPY_SEED)
            torch.manual_seed(_TORCH_SEED)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@lru_cache(maxsize=2)
def _manager(include_path: str | None, with_defaults: bool) -> Any:
    from lm_eval.tasks import TaskManager

    bound_templates()
    if with_defaults:
        log.info("lm-eval: reading the list of the harness's tasks")
    return TaskManager(include_path=include_path, include_defaults=with_defaults)


def _load(name: str, config: BenchmarkConfig) -> dict[str, HarnessTasks]:
    """Return name -> tasks; a group without an average gives one entry per task."""
    if config.include_path and not Path(config.include_path).is_dir():
        raise ConfigError(f"benchmarks.{name}.include_path: no such folder {config.include_path!r}")
    check_files(name, config)
    manager, names = _matching_names(name, config)
    check_metrics(name, manager, names)
    metrics = tuple(config.metrics)
    tasks: dict[str, HarnessTasks] = {}
    for key in names:
        loaded = _loaded(manager, key, f"benchmarks.{name}.tasks: {key!r}")
        group = loaded["groups"].get(key)
        if group is not None and group.has_aggregation:
            tasks[key] = HarnessTasks(dict(loaded["tasks"]), group, metrics)
        else:
            tasks |= {k: HarnessTasks({k: task}, None, metrics) for k, task in loaded["tasks"].items()}
    return tasks


def _matching_names(name: str, config: BenchmarkConfig) -> tuple[Any, list[str]]:
    """Return the harness's task manager, and the names of the tasks that `tasks` selects."""
    unknown = ""
    for with_defaults in (False, True) if config.include_path else (True,):
        manager = _manager(config.include_path, with_defaults)
        names: list[str] = []
        for pattern in config.tasks:
            matches = [pattern] if Path(pattern).is_file() else manager.match_tasks([pattern])
            unknown = "" if matches else pattern
            if unknown:
                break
            names += matches
        else:
            return manager, list(dict.fromkeys(names))
    raise ConfigError(
        f"benchmarks.{name}.tasks: unknown task {unknown!r} (`lm-eval ls tasks` lists them; "
        f"benchmarks.{name}.include_path names a folder of your own)"
    )


def _loaded(manager: Any, key: str, where: str) -> Any:
    """Load the tasks and groups of one name.

    Raises:
        DataError: A task can't be loaded.
    """
    with _task_errors(f"{where}: can't be loaded"):
        return manager.load([key])


@contextmanager
def _task_errors(where: str) -> Iterator[None]:
    """Report the failures of a task's own code, templates and data as the user's errors.

    Raises:
        DataError: The task fails; the message starts with `where`.
    """
    import datasets
    import jinja2
    import yaml

    python_errors = (
        *(OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, AssertionError),
        *(ArithmeticError, ImportError, MemoryError, SyntaxError, pickle.PickleError),
    )
    library_errors = (datasets.exceptions.DatasetsError, jinja2.TemplateError, yaml.YAMLError)
    try:
        yield
    except (*python_errors, *library_errors) as error:
        raise DataError(f"{where}: {first_line(error):.500}") from error


def _set_up(task: Any, num_fewshot: int | None, where: str) -> None:
    """Set the user's number of few-shot examples if the task allows it, and check and bound the task.

    Raises:
        ConfigError: This engine can't ask the task.
        DataError: A filter of the task can't be built.
    """
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(
            f"{where}: running programs that the model writes is not supported (name other tasks)"
        )
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"{where}: images and audio are not supported (name other tasks)")
    task_num_fewshot = task.get_config("num_fewshot")
    if task_num_fewshot is None or (num_fewshot is not None and task_num_fewshot != 0):
        task.set_config(key="num_fewshot", value=num_fewshot or 0)
    bound_totals(task)
    bound_filters(task, where)
    if (repeats := task.get_config("repeats") or 1) > MOST_REPEATS:
        raise ConfigError(f"{where}: repeats={repeats} (at most {MOST_REPEATS:,} answers to each item)")
    if task.OUTPUT_TYPE == "generate_until":
        limits(task.get_config("generation_kwargs") or {}, where)


def _prepared(
    name: str, harness_tasks: HarnessTasks, config: BenchmarkConfig, evaluate: EvaluateConfig
) -> PreparedBenchmark:
    """Render the examples of tasks and resolve the benchmark's configuration."""
    harness_tasks = replace(harness_tasks, samples=_samples(name, harness_tasks, config))
    samples = harness_tasks.samples or {}
    examples = [
        example
        for key, task in harness_tasks.tasks.items()
        for example in _examples(
            task, key if harness_tasks.group else "", samples.get(key), config.limit, evaluate.fewshot_seed
        )
    ]
    known = sorted({metric for task in harness_tasks.tasks.values() for metric in task.aggregation()})
    for metric in harness_tasks.metrics:
        if metric not in known:
            raise ConfigError(
                f"benchmarks.{name}.metrics: unknown metric {metric!r} (known: {', '.join(known)})"
            )
    rules = {key: task.dump_config() for key, task in harness_tasks.tasks.items()}
    rule = re.sub(r" at 0x\w+", "", json.dumps(rules, sort_keys=True, default=str))
    version = metadata.version("lm_eval")
    return PreparedBenchmark(
        name=name,
        config=replace(
            config,
            language=config.language or language(example.questions[0] for example in examples),
            protocol=f"lm-eval {version}",
            protocols={f"lm-eval {version}": ProtocolConfig()},
            num_fewshot=max(task.get_config("num_fewshot") for task in harness_tasks.tasks.values()),
        ),
        examples=examples,
        warnings=[],
        tasks=harness_tasks,
        rule=fingerprint([version, rule, harness_tasks.metrics, _ANSWERS_VERSION]),
    )


def _samples(name: str, harness_tasks: HarnessTasks, config: BenchmarkConfig) -> dict[str, list[int]] | None:
    """Return the indices of the rows of each task that `limit` selects by hash, or None."""
    if config.limit is None or config.sample is Sample.first:
        return None
    samples: dict[str, list[int]] = {}
    for key, task in harness_tasks.tasks.items():
        subset = key if harness_tasks.group else ""
        ids = [item_id(subset, index) for index in range(len(task.eval_docs))]
        samples[key] = sampled(name, subset, ids, config.limit, config.sample)
    return samples


def _examples(task: Any, subset: str, rows: list[int] | None, limit: int | None, seed: int) -> list[Example]:
    """Return the items of a task with every text that a model reads, as plain prompts."""
    task.set_fewshot_seed(seed=seed)
    with _task_errors(f"lm-eval task {task.task_name!r}: the prompts can't be built"):
        task.build_all_requests(limit=None if rows else limit, samples=rows)
    examples: list[Example] = []
    for instances in by_document(task.instances):
        first = instances[0]
        index = rows[first.doc_id] if rows else first.doc_id
        question = task.doc_to_text(first.doc)
        examples.append(
            Example(
                id=item_id(subset, index),
                subset=subset,
                questions=(question if isinstance(question, str) else first.args[0],),
                continuations=tuple(str(argument) for instance in instances for argument in instance.args),
                target=str(task.doc_to_target(first.doc)),
            )
        )
    return examples


def by_document(instances: Sequence[Any]) -> list[list[Any]]:
    """Group requests by document, in order."""
    by_id: dict[int, list[Any]] = {}
    for instance in instances:
        by_id.setdefault(instance.doc_id, []).append(instance)
    return list(by_id.values())


def item_id(subset: str, index: int) -> str:
    """Return an item's id: the index of the row, after the task's name in a group."""
    return f"{subset}/{index}" if subset else str(index)


def language(questions: Iterator[str]) -> str:
    """Return `zh` if more than a fifth of the letters are Chinese, else `en`."""
    letters = [letter for question in questions for letter in question[:2000] if letter.isalpha()]
    han = sum("\u4e00" <= letter <= "\u9fff" for letter in letters)
    return "zh" if han > _HAN_SHARE * len(letters) else "en"
