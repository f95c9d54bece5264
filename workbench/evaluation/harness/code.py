"""What of a task of lm-evaluation-harness is code, found before any of it can run.

The harness reads YAML with a loader that builds any Python object, imports the functions that `!function`
names from files beside the YAML, and loads metrics that it doesn't know by `evaluate.load`: a script is run.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workbench.config.benchmark import BenchmarkConfig
from workbench.errors import DataError
from workbench.files import check_readable
from workbench.trust import check_trusted, is_trusted

MOST_BYTES = 5 << 20
"""Of one task file; the largest of the harness has some tens of thousands."""
_DATA_TAGS = "tag:yaml.org,2002:"
_PYTHON_TAGS = "tag:yaml.org,2002:python"


def check_files(name: str, config: BenchmarkConfig) -> None:
    """Refuse task files of the user's own that name code, unless code is trusted.

    Raises:
        ConfigError: names the file and what it names, or the file is none.
        DataError: a file can't be read.
    """
    named = [Path(task) for task in config.tasks if Path(task).is_file()]
    others = sorted(Path(config.include_path).rglob("*.yaml")) if config.include_path else []
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(file, ()) for file in (*named, *others)]
    seen: set[Path] = set()
    while waiting:
        path, includers = waiting.pop(0)
        file = path.resolve()
        if file in includers:
            raise DataError(f"benchmarks.{name}: {includers[-1]}: includes {path.name!r}, which includes it")
        if file in seen:
            continue
        seen.add(file)
        code, includes = _read(file, f"benchmarks.{name}", is_task=path in named)
        for source in code:
            check_trusted(f"benchmarks.{name}: {file}", source)
        waiting += [(included, (*includers, file)) for included in includes]


def check_metrics(name: str, manager: Any, chosen: Sequence[str]) -> None:
    """Refuse tasks whose metrics `evaluate.load` would fetch as scripts, unless code is trusted.

    Raises:
        ConfigError: names the task and the metric.
    """
    if is_trusted():
        return
    import lm_eval.api.metrics  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import metric_registry

    for task, settings in _configurations(manager, chosen):
        if settings.get("process_results") is not None:
            continue  # the harness then loads no metric
        for entry in _entries(settings.get("metric_list")):
            metric = entry.get("metric")
            known = isinstance(metric, str) and metric in metric_registry and not entry.get("hf_evaluate")
            if metric is not None and not known:
                check_trusted(f"benchmarks.{name}.tasks: {task!r}", f"the metric {metric} of evaluate.load")


def _read(file: Path, key: str, *, is_task: bool) -> tuple[list[str], list[Path]]:
    """What a YAML file names that is code, and the files that it includes; nothing of it is built.

    Raises:
        DataError: the file can't be read, or as a task holds nothing.
    """
    import yaml

    check_readable(file, MOST_BYTES)
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{key}: {file}: not readable as YAML, {reason:.200}") from error
    if is_task and not isinstance(root, yaml.MappingNode):
        raise DataError(f"{key}: {file}: holds no task (a mapping with the key 'task' is wanted)")
    code, includes = [], []
    for node in _nodes(root):
        if node.tag.startswith(_PYTHON_TAGS) or not node.tag.startswith(_DATA_TAGS):
            code.append(f"{node.tag} {node.value if isinstance(node.value, str) else ''}".strip())
    for word, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if word.value == "include":
            parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
            includes += [file.parent / part.value for part in parts if isinstance(part.value, str)]
    return code, includes


def _nodes(root: Any) -> Iterator[Any]:
    """A YAML node and all nodes in it, each once."""
    import yaml

    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)


def _configurations(manager: Any, chosen: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of each task that some names stand for, those in groups and tags included."""
    from lm_eval.tasks._yaml_loader import load_yaml

    waiting, seen = list(chosen), set()
    while waiting:
        key = waiting.pop(0)
        if key in seen:
            continue
        seen.add(key)
        entry = manager.task_index.get(key)
        if entry is None:
            settings = load_yaml(key, resolve_func=False) if Path(key).is_file() else {}
        else:
            settings = entry.cfg or {}
            waiting += sorted(entry.tags) if not settings else []
        if settings:
            yield key, settings
        for member in _entries(settings.get("task")):
            yield key, member
            waiting += [member[word] for word in ("task", "group") if isinstance(member.get(word), str)]
        if isinstance(settings.get("task"), list):
            waiting += [member for member in settings["task"] if isinstance(member, str)]


def _entries(value: Any) -> list[dict[str, Any]]:
    """The mappings in a list; none where it is anything else."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
