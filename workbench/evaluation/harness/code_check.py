"""Detects code in tasks of lm-evaluation-harness before any of the code can run.

The harness reads YAML with a loader that builds any Python object, imports the functions that `!function`
names from Python files next to the YAML, and runs the script of a metric that only `evaluate.load` knows.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workbench.config.benchmark import BenchmarkConfig
from workbench.errors import DataError
from workbench.files import check_readable
from workbench.trust import check_trusted, is_trusted

MOST_BYTES = 5 << 20
"""Largest size of a task file; the largest of the harness has some tens of thousands of bytes."""
_DATA_TAGS = "tag:yaml.org,2002:"
_PYTHON_TAGS = "tag:yaml.org,2002:python"


def check_files(name: str, config: BenchmarkConfig) -> None:
    """Check that the user's task files, and the files they include, name no code, unless code is trusted.

    Raises:
        ConfigError: A file names code; the message names both.
        DataError: A file can't be read, or includes itself, directly or by other files.
    """
    task_files = [Path(task) for task in config.tasks if Path(task).is_file()]
    included_files = sorted(Path(config.include_path).rglob("*.yaml")) if config.include_path else []
    pending: list[tuple[Path, tuple[Path, ...]]] = [(file, ()) for file in (*task_files, *included_files)]
    seen: set[Path] = set()
    while pending:
        path, includers = pending.pop(0)
        file = path.resolve()
        if file in includers:
            raise DataError(f"benchmarks.{name}: {includers[-1]}: includes {path.name!r}, which includes it")
        if file in seen:
            continue
        seen.add(file)
        code, includes = _read(file, f"benchmarks.{name}", is_task=path in task_files)
        for source in code:
            check_trusted(f"benchmarks.{name}: {file}", source)
        pending += [(included, (*includers, file)) for included in includes]


def check_metrics(name: str, manager: Any, tasks: Sequence[str]) -> None:
    """Check that no task's metric would be loaded as a script by `evaluate.load`, unless code is trusted.

    Args:
        name: Name of the benchmark, for the message.
        manager: The harness's TaskManager.
        tasks: Names of tasks, groups and tags in it, or paths of task files.

    Raises:
        ConfigError: A metric is a script; the message names the task and the metric.
    """
    if is_trusted():
        return
    import lm_eval.api.metrics  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import metric_registry

    for task, settings in _configurations(manager, tasks):
        if settings.get("process_results") is not None:
            continue  # then the harness loads no metric
        for entry in _entries(settings.get("metric_list")):
            metric = entry.get("metric")
            is_known = isinstance(metric, str) and metric in metric_registry and not entry.get("hf_evaluate")
            if metric is not None and not is_known:
                check_trusted(f"benchmarks.{name}.tasks: {task!r}", f"the metric {metric} of evaluate.load")


def _read(file: Path, key: str, *, is_task: bool) -> tuple[list[str], list[Path]]:
    """Return the code that a YAML file names, and the paths of the files that it includes.

    The YAML is parsed but no object is built, so no code runs.

    Raises:
        DataError: The file can't be read; or it must be a task (`is_task`) and isn't a mapping.
    """
    import yaml

    check_readable(file, MOST_BYTES)
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{key}: {file}: not readable as YAML, {reason:.200}") from error
    if is_task and not isinstance(root, yaml.MappingNode):
        raise DataError(f"{key}: {file}: not a task (must be a mapping with the key 'task')")
    code, includes = [], []
    for node in _nodes(root):
        if node.tag.startswith(_PYTHON_TAGS) or not node.tag.startswith(_DATA_TAGS):
            code.append(f"{node.tag} {node.value if isinstance(node.value, str) else ''}".strip())
    for key_node, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key_node.value == "include":
            names = value.value if isinstance(value, yaml.SequenceNode) else [value]
            includes += [file.parent / name.value for name in names if isinstance(name.value, str)]
    return code, includes


def _nodes(root: Any) -> Iterator[Any]:
    """Yield a YAML node and all nodes in it, each once."""
    import yaml

    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            pending += [child for pair in reversed(node.value) for child in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            pending += reversed(node.value)


def _configurations(manager: Any, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and settings of each task that the names refer to, including tasks of groups and tags."""
    from lm_eval.tasks._yaml_loader import load_yaml

    pending, seen = list(names), set()
    while pending:
        key = pending.pop(0)
        if key in seen:
            continue
        seen.add(key)
        entry = manager.task_index.get(key)
        if entry is None:
            settings = load_yaml(key, resolve_func=False) if Path(key).is_file() else {}
        else:
            settings = entry.cfg or {}
            pending += sorted(entry.tags) if not settings else []
        if settings:
            yield key, settings
        for member in _entries(settings.get("task")):
            yield key, member
            pending += [member[field] for field in ("task", "group") if isinstance(member.get(field), str)]
        if isinstance(settings.get("task"), list):
            pending += [member for member in settings["task"] if isinstance(member, str)]


def _entries(value: Any) -> list[dict[str, Any]]:
    """Return those entries of a list that are mappings; an empty list if the value is not a list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
