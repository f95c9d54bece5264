"""Reads, renders and checks the items of benchmarks before any model is loaded."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.config.benchmark import BenchmarkConfig, FewshotOrder, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.data.classes import class_list
from workbench.data.readers.hub_datasets import hub_rows
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmark_settings import check_settings
from workbench.evaluation.benchmarks import benchmark_templates, protocols
from workbench.evaluation.benchmarks.benchmark_files import Row, read_rows
from workbench.evaluation.benchmarks.benchmark_prompts import Renderer
from workbench.evaluation.benchmarks.item_remarks import about_items
from workbench.evaluation.benchmarks.list_checks import check_ignored, check_lists
from workbench.evaluation.benchmarks.sample import sampled
from workbench.evaluation.benchmarks.sampling_settings import check_sampling, with_sampling
from workbench.evaluation.benchmarks.system_text import with_system
from workbench.evaluation.benchmarks.template_variables import GivenNames
from workbench.evaluation.harness import tasks
from workbench.evaluation.item_interviewer import ItemInterviewer
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example
from workbench.files import local_path


def prepare_benchmarks(
    benchmarks: Mapping[str, BenchmarkConfig], evaluate: EvaluateConfig
) -> dict[str, PreparedBenchmark]:
    """Prepare all benchmarks by `prepare_each`, and check that each setting has an effect on some of them.

    Raises:
        ConfigError: As for `prepare_each`, or sampling is given and no benchmark generates texts.
        DataError: As for `prepare_each`.
    """
    prepared = prepare_each(benchmarks, evaluate)
    check_effects(prepared, evaluate)
    return prepared


def check_effects(prepared: Mapping[str, PreparedBenchmark], evaluate: EvaluateConfig) -> None:
    """Check that the sampling of the evaluate section has an effect on one of all benchmarks of a run.

    Raises:
        ConfigError: Sampling is given, and no benchmark generates texts.
    """
    generate = [benchmark.interviewer.generates(benchmark) for benchmark in prepared.values()]
    check_sampling(evaluate, [benchmark.config for benchmark in prepared.values()], generate)


def prepare_each(
    benchmarks: Mapping[str, BenchmarkConfig], evaluate: EvaluateConfig
) -> dict[str, PreparedBenchmark]:
    """Read, check and render the items of each benchmark that its limit selects; this takes no model.

    A benchmark with tasks of lm-evaluation-harness gives one benchmark per task, `NAME.TASK`.

    Raises:
        ConfigError: A key or template is wrong.
        DataError: A file is missing or malformed, a row has no answer among its choices, ...
    """
    prepared: dict[str, PreparedBenchmark] = {}
    for name, config in benchmarks.items():
        if config.output_type == OutputType["lm-eval"]:
            prepared.update(tasks.prepare(name, config, evaluate))
        else:
            prepared[name] = prepare(name, config, evaluate)
    return prepared


def prepare(name: str, config: BenchmarkConfig, evaluate: EvaluateConfig) -> PreparedBenchmark:
    """Read, check and render the items of one benchmark that its limit selects.

    The rows are those of the files at `path`, or else of the Hub's data set. Not for tasks of the harness.

    Raises:
        ConfigError: A key or template is wrong.
        DataError: A file is missing or malformed, a row has no answer among its choices, two items have the
            same id, there are no items, ...
    """
    config = with_sampling(name, protocols.resolve(name, config), evaluate)
    check_lists(name, config)
    check_ignored(name, config)
    config = _with_choices(name, _of_subsets(name, config))
    check_settings(name, config)
    renderer = Renderer(config, evaluate.fewshot_seed, evaluate.permutations)
    examples: list[Example] = []
    num_total = 0
    position_of: dict[str, str] = {}
    for subset in config.subsets or {"": ""}:
        rows = list(load_rows(name, config, config.split, subset).items())
        shots = _shot_rows(name, config, subset)
        num_total += len(rows)
        parents = _parents(rows)
        for kept_index in _selected(name, config, subset, rows, renderer):
            number, row = rows[kept_index]
            example = renderer.example(row, number, kept_index, subset, shots)
            example = with_system(example, evaluate.system, config)
            cluster = renderer.cluster(row, subset, parents[row.parent])
            example = replace(example, cluster=cluster) if cluster else example
            if example.id in position_of:
                first = position_of[example.id]
                raise DataError(f"{row.where}: duplicate id {example.id!r} (first at {first})")
            position_of[example.id] = row.where
            examples.append(example)
    if not examples:
        keep = f", after keep={config.keep!r}" if config.keep else ""
        raise DataError(f"benchmarks.{name}: no items in {_origin(config)}, split {config.split!r}{keep}")
    for check_items in dict.fromkeys(metric_named(metric).check_items for metric in config.metrics):
        if check_items is not None:
            check_items(f"benchmarks.{name}", examples)
    warnings = about_items(config, examples, renderer, evaluate.permutations)
    total = config.num_items if config.only else num_total
    return PreparedBenchmark(name, config, examples, warnings, ItemInterviewer(), total)


def _parents(rows: Sequence[tuple[int, Row]]) -> dict[str, str]:
    """Return, for each position of a row that was unfolded into several, the index of the first of them.

    A position is that of the row in its file; indices are texts. Rows that weren't unfolded have the position
    "", whose value is "". If all rows come from the same position, its value is "" too: then the file is one
    object with a list of items, and not a text with several questions.
    """
    parents: dict[str, str] = {"": ""}
    for number, row in rows:
        parents.setdefault(row.parent, str(number))
    return parents if len(parents.keys() - {""}) > 1 else dict.fromkeys(parents, "")


def _selected(
    name: str, config: BenchmarkConfig, subset: str, rows: Sequence[tuple[int, Row]], renderer: Renderer
) -> list[int]:
    """Return the indices in `rows` of the rows that `limit` selects; without a limit, all indices.

    Each entry of `rows` is (index in the split, row).
    """
    if config.limit is None or config.limit >= len(rows):
        return list(range(len(rows)))
    ids = [renderer.identity(row, number, subset) for number, row in rows]
    return sampled(name, subset, ids, config.limit, config.sample)


def _of_subsets(name: str, config: BenchmarkConfig) -> BenchmarkConfig:
    """Return the benchmark with only the subsets that `only` names; all subsets if `only` is empty."""
    for subset in config.only:
        if subset not in config.subsets:
            known = ", ".join(config.subsets) or "none"
            raise ConfigError(f"benchmarks.{name}.only: no subset {subset!r} (known: {known})")
    subsets = {subset: title for subset, title in config.subsets.items() if subset in config.only}
    return replace(config, subsets=subsets or config.subsets)


def _with_choices(name: str, config: BenchmarkConfig) -> BenchmarkConfig:
    """Return the benchmark with its `choices` read from `choices_file`, if the benchmark names a file."""
    if not config.choices_file:
        return config
    path = local_path(config.path or "")
    file = (path.parent if path.is_file() else path) / local_path(config.choices_file)
    return replace(config, choices=class_list(file, f"benchmarks.{name}.choices_file").names, choices_file="")


def load_rows(name: str, config: BenchmarkConfig, split: str, subset: str) -> dict[int, Row]:
    """Return index -> row of one split of one subset, with the layout's columns added and `keep` applied.

    The index counts the rows before `keep`, so that `keep` doesn't change the ids of items.

    Raises:
        ConfigError: The benchmark has no file for this split, and no data set on the Hub.
        DataError: A file is missing or malformed, or a template fails on a row.
    """
    if config.path is not None:
        rows = _local_rows(name, config, local_path(config.path), split, subset)
        columns, layout_keep = config.local.columns, config.local.keep
    else:
        rows = _hub_rows(name, config, split, subset)
        columns, layout_keep = config.hub.columns, config.hub.keep
    given_names = GivenNames(config)
    rows = [_with_columns(row, columns, config, subset, given_names) for row in rows]
    split_rows = [row for row in rows if _is_kept(row, layout_keep, given_names, split)]
    return {index: row for index, row in enumerate(split_rows) if _is_kept(row, config.keep, given_names)}


def _is_kept(row: Row, keep: str, given_names: GivenNames, split: str = "") -> bool:
    """Return whether the expression `keep` holds for a row; it knows a `split` that is given."""
    if not keep:
        return True
    given_names.check_keep(row)
    values = {"split": split} if split and "split" not in row.values else {}
    return bool(benchmark_templates.evaluate(keep, values, row))


def _local_rows(name: str, config: BenchmarkConfig, path: Path, split: str, subset: str) -> list[Row]:
    if path.is_file():
        if split != config.split:
            raise ConfigError(
                f"benchmarks.{name}.path: {str(path)!r} is a single file, but few-shot examples need "
                f"split {split!r} (name a folder with both splits, or set num_fewshot=0)"
            )
        return read_rows(path, config.local, f"benchmarks.{name}.local")
    if not path.is_dir():
        raise DataError(f"benchmarks.{name}.path: no such file or folder {str(path)!r}")
    if split not in config.local.files:
        known = ", ".join(config.local.files) or "none"
        raise ConfigError(f"benchmarks.{name}.local.files: no file for split {split!r} (known: {known})")
    file = path / config.local.files[split].replace("{subset}", subset)
    return read_rows(file, config.local, f"benchmarks.{name}.local")


def _hub_rows(name: str, config: BenchmarkConfig, split: str, subset: str) -> list[Row]:
    if not config.dataset:
        raise ConfigError(f"benchmarks.{name}.path: not set, and the benchmark has no hub id in `dataset`")
    subset_name = config.hub.name.replace("{subset}", subset) or None
    dataset = config.dataset.replace("{subset}", subset)
    key, hint = f"benchmarks.{name}.dataset", f" (set benchmarks.{name}.path to a local copy)"
    return list(hub_rows(dataset, subset_name, split, key=key, hint=hint))


def _with_columns(
    row: Row, columns: dict[str, str], config: BenchmarkConfig, subset: str, given_names: GivenNames
) -> Row:
    given_names.check_columns(row)
    values: dict[str, Any] = dict(row.values)
    names: dict[str, Any] = {"letters": list(string.ascii_uppercase)}
    if config.subsets or "subset" not in row.values:
        names["subset"] = subset
    for column, expression in columns.items():
        values[column] = benchmark_templates.evaluate(expression, names, replace(row, values=values))
    return replace(row, values=values)


def _shot_rows(name: str, config: BenchmarkConfig, subset: str) -> list[Row]:
    if not config.num_fewshot:
        return []
    if not config.fewshot_split:
        raise ConfigError(
            f"benchmarks.{name}.num_fewshot: {config.num_fewshot} examples, but the benchmark has no "
            "fewshot_split (set it, or num_fewshot=0)"
        )
    rows = list(load_rows(name, config, config.fewshot_split, subset).values())
    spare = config.fewshot_order == FewshotOrder["harness-spare"]
    needed = config.num_fewshot + (spare or config.fewshot_split == config.split)
    if len(rows) < needed:
        raise DataError(
            f"benchmarks.{name}.num_fewshot: {config.num_fewshot} examples need {needed} rows, but split "
            f"{config.fewshot_split!r} of {subset or name!r} has {len(rows)}"
        )
    return rows


def _origin(config: BenchmarkConfig) -> str:
    return config.path if config.path is not None else config.dataset
