"""Tasks of lm-evaluation-harness, loaded and checked before any model is."""

import io
import json
import logging
import pickle
import random
import re
from collections.abc import Iterator, Sequence
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
from workbench.errors import ConfigError, DataError, first_line
from workbench.evaluation.benchmarks.list_checks import check_ignored, check_lists
from workbench.evaluation.benchmarks.sample import sampled
from workbench.evaluation.harness.code import check_files, check_metrics
from workbench.evaluation.harness.filters import bound_filters
from workbench.evaluation.harness.interviewer import HarnessInterviewer, HarnessTasks
from workbench.evaluation.harness.item_scores import bound_totals
from workbench.evaluation.harness.limits import limits
from workbench.evaluation.harness.templates import bound_templates
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example
from workbench.run_dir import fingerprint

_HAN_SHARE = 0.2
"""From this share of Chinese characters among the letters on, questions count as Chinese."""
_RANDOM_SEED, _NUMPY_SEED, _TORCH_SEED = 0, 1234, 1234
"""What the harness seeds the global generators with; some tasks shuffle by them."""
MOST_REPEATS = 1000
"""Answers to one item."""
_ANSWERS_VERSION = 2
"""Raised when answers to tasks end or are encoded in another way."""
log = logging.getLogger("workbench")


def prepare(name: str, config: BenchmarkConfig, evaluate: EvaluateConfig) -> dict[str, PreparedBenchmark]:
    """The tasks that a benchmark names, each a benchmark of its own, as `NAME.TASK`.

    Raises:
        ConfigError: the harness is not installed, a task is unknown, or this engine can't ask it.
        DataError: a task's rows can't be loaded.
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
    with quietly():
        found = _load(name, config)
        for one in found.values():
            for task in one.tasks.values():
                _set_up(task, config.num_fewshot, f"benchmarks.{name}.tasks: {task.task_name!r}")
        for key in found:
            check_file_name(f"benchmarks.{name}.tasks", f"{name}.{key}")
        return {
            f"{name}.{key}": _prepared(f"{name}.{key}", one, config, evaluate) for key, one in found.items()
        }


@contextmanager
def quietly() -> Iterator[None]:
    """The harness without its progress bars and log lines, on random states that are put back afterwards."""
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
    """Tasks by the name that they are reported under; a group that averages nothing falls into its tasks."""
    if config.include_path and not Path(config.include_path).is_dir():
        raise ConfigError(f"benchmarks.{name}.include_path: no such folder {config.include_path!r}")
    check_files(name, config)
    manager, chosen = _chosen(name, config)
    check_metrics(name, manager, chosen)
    metrics = tuple(config.metrics)
    found: dict[str, HarnessTasks] = {}
    for key in chosen:
        loaded = _loaded(manager, key, f"benchmarks.{name}.tasks: {key!r}")
        group = loaded["groups"].get(key)
        if group is not None and group.has_aggregation:
            found[key] = HarnessTasks(dict(loaded["tasks"]), group, metrics)
        else:
            found |= {k: HarnessTasks({k: task}, None, metrics) for k, task in loaded["tasks"].items()}
    return found


def _chosen(name: str, config: BenchmarkConfig) -> tuple[Any, list[str]]:
    """The harness's list of tasks, and which of them are asked for."""
    unknown = ""
    for with_defaults in (False, True) if config.include_path else (True,):
        manager = _manager(config.include_path, with_defaults)
        chosen: list[str] = []
        for wanted in config.tasks:
            names = [wanted] if Path(wanted).is_file() else manager.match_tasks([wanted])
            unknown = "" if names else wanted
            if unknown:
                break
            chosen += names
        else:
            return manager, list(dict.fromkeys(chosen))
    raise ConfigError(
        f"benchmarks.{name}.tasks: unknown task {unknown!r} (`lm-eval ls tasks` lists them; "
        f"benchmarks.{name}.include_path names a folder of your own)"
    )


def _loaded(manager: Any, key: str, where: str) -> Any:
    """What the harness makes of one name: tasks and groups.

    Raises:
        DataError: it can't be loaded.
    """
    with _of_tasks(f"{where}: can't be loaded"):
        return manager.load([key])


@contextmanager
def _of_tasks(where: str) -> Iterator[None]:
    """Put the place before an error of a task.

    Tasks bring code, templates and data of their own; all that these can end in is the user's to mend.

    Raises:
        DataError: the task fails.
    """
    import datasets
    import jinja2
    import yaml

    failures = (
        *(OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, AssertionError),
        *(ArithmeticError, ImportError, MemoryError, SyntaxError, pickle.PickleError),
    )
    others = (datasets.exceptions.DatasetsError, jinja2.TemplateError, yaml.YAMLError)
    try:
        yield
    except (*failures, *others) as error:
        raise DataError(f"{where}: {first_line(error):.500}") from error


def _set_up(task: Any, num_fewshot: int | None, where: str) -> None:
    """The user's number of examples in place, where the task allows another.

    Raises:
        ConfigError: this engine can't ask the task.
        DataError: a filter of the task is none.
    """
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(f"{where}: runs programs that the model writes, unsupported (name other tasks)")
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"{where}: shows pictures or plays sounds, unsupported (name other tasks)")
    own = task.get_config("num_fewshot")
    if own is None or (num_fewshot is not None and own != 0):
        task.set_config(key="num_fewshot", value=num_fewshot or 0)
    bound_totals(task)
    bound_filters(task, where)
    if (repeats := task.get_config("repeats") or 1) > MOST_REPEATS:
        raise ConfigError(f"{where}: repeats={repeats} (at most {MOST_REPEATS:,} answers to each item)")
    if task.OUTPUT_TYPE == "generate_until":
        limits(task.get_config("generation_kwargs") or {}, where)


def _prepared(
    name: str, found: HarnessTasks, config: BenchmarkConfig, evaluate: EvaluateConfig
) -> PreparedBenchmark:
    found = replace(found, samples=_samples(name, found, config))
    chosen = found.samples or {}
    examples = [
        example
        for key, task in found.tasks.items()
        for example in _examples(
            task, key if found.group else "", chosen.get(key), config.limit, evaluate.fewshot_seed
        )
    ]
    known = sorted({metric for task in found.tasks.values() for metric in task.aggregation()})
    for metric in found.metrics:
        if metric not in known:
            raise ConfigError(
                f"benchmarks.{name}.metrics: unknown metric {metric!r} (known: {', '.join(known)})"
            )
    rules = {key: task.dump_config() for key, task in found.tasks.items()}
    rule = re.sub(r" at 0x\w+", "", json.dumps(rules, sort_keys=True, default=str))
    version = metadata.version("lm_eval")
    return PreparedBenchmark(
        name=name,
        config=replace(
            config,
            language=config.language or language(example.questions[0] for example in examples),
            protocol=f"lm-eval {version}",
            protocols={f"lm-eval {version}": ProtocolConfig()},
            num_fewshot=max(task.get_config("num_fewshot") for task in found.tasks.values()),
        ),
        examples=examples,
        warnings=[],
        interviewer=HarnessInterviewer(found, fingerprint([version, rule, found.metrics, _ANSWERS_VERSION])),
        num_total=sum(len(task.eval_docs) for task in found.tasks.values()),
    )


def _samples(name: str, found: HarnessTasks, config: BenchmarkConfig) -> dict[str, list[int]] | None:
    """The rows of each task that `limit` takes by their hash."""
    if config.limit is None or config.sample is Sample.first:
        return None
    chosen: dict[str, list[int]] = {}
    for key, task in found.tasks.items():
        subset = key if found.group else ""
        ids = [item_id(subset, number) for number in range(len(task.eval_docs))]
        chosen[key] = sampled(name, subset, ids, config.limit, config.sample)
    return chosen


def _examples(
    task: Any, subset: str, numbers: list[int] | None, limit: int | None, seed: int
) -> list[Example]:
    """The items of a task with every text that a model is shown, as plain prompts."""
    task.set_fewshot_seed(seed=seed)
    with _of_tasks(f"lm-eval task {task.task_name!r}: its prompts can't be made"):
        task.build_all_requests(limit=None if numbers else limit, samples=numbers)
    found: list[Example] = []
    for instances in by_document(task.instances):
        first = instances[0]
        number = numbers[first.doc_id] if numbers else first.doc_id
        question = task.doc_to_text(first.doc)
        found.append(
            Example(
                id=item_id(subset, number),
                subset=subset,
                questions=(question if isinstance(question, str) else first.args[0],),
                continuations=tuple(str(argument) for one in instances for argument in one.args),
                target=str(task.doc_to_target(first.doc)),
            )
        )
    return found


def by_document(instances: Sequence[Any]) -> list[list[Any]]:
    """Requests of the same document together, in order."""
    found: dict[int, list[Any]] = {}
    for one in instances:
        found.setdefault(one.doc_id, []).append(one)
    return list(found.values())


def item_id(subset: str, number: int) -> str:
    """An item's id: the row's number, after the task where a group holds several."""
    return f"{subset}/{number}" if subset else str(number)


def language(questions: Iterator[str]) -> str:
    """Chinese (zh) where a good part of the letters is, else English (en)."""
    letters = [letter for question in questions for letter in question[:2000] if letter.isalpha()]
    han = sum("\u4e00" <= letter <= "\u9fff" for letter in letters)
    return "zh" if han > _HAN_SHARE * len(letters) else "en"
