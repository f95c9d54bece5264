"""Writes a model's scores as the Hub's evaluation results: one YAML file per benchmark in .eval_results.

Source: https://huggingface.co/docs/hub/eval-results. The format has no interval, so the notes have it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from workbench.files import fingerprint, settle_file, write_atomic
from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Cell, Column, Model
from workbench.leaderboard.outputs.texts import one_line

FOLDER = ".eval_results"
MARK = "# Written by the leaderboard step; without this line it is left as it is.\n"
TASKS = {"openai/gsm8k": "gsm8k"}
"""Data set -> its task name on the Hub, where that isn't the name of the configuration."""


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """The data set of a benchmark on the Hub: repository, configuration and split."""

    path: str
    """Repository, as in `openai/gsm8k`."""
    name: str = ""
    """Configuration of the data set; empty if the benchmark uses several, or if there is only one."""
    split: str = "test"

    @property
    def task(self) -> str:
        """Name of the task on the Hub's leaderboard for the data set."""
        return TASKS.get(self.path) or self.name or "default"


def datasets_of(benchmarks: Mapping[str, Any]) -> dict[str, HubDataset]:
    """Return benchmark -> data set on the Hub, for benchmarks whose `dataset` has the form OWNER/NAME.

    Args:
        benchmarks: The section `benchmarks` of a run's configuration, as plain values.
    """
    datasets = {}
    for benchmark, section in benchmarks.items():
        values = section if isinstance(section, Mapping) else {}
        path, hub = values.get("dataset"), values.get("hub")
        name = str(hub.get("name", "")) if isinstance(hub, Mapping) else ""
        if isinstance(path, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", path, re.ASCII):
            split = one_line(str(values.get("split") or "test"))
            datasets[str(benchmark)] = HubDataset(
                path=path, name="" if "{" in name else one_line(name), split=split
            )
    return datasets


def write(board: Board, model: Model, datasets: Mapping[str, HubDataset], folder: Path) -> None:
    """Write one YAML file per benchmark on all items of which the model was scored, into its .eval_results.

    Files of other benchmarks, from earlier boards, are deleted. A file without `MARK` (the user's) stays.

    Args:
        board: The board.
        model: One of its models.
        datasets: Benchmark -> its data set on the Hub; other benchmarks are left out.
        folder: Folder of the model.
    """
    entries: dict[str, list[EvalResultEntry]] = {}
    columns = {column.key: column for column in board.columns}
    for cell in board.cells:
        column = columns[cell.column]
        is_whole = cell.score.num_items >= column.num_total
        if cell.model == model.key and is_whole and (dataset := datasets.get(column.benchmark)):
            entries.setdefault(column.benchmark, []).append(_entry(board, model, cell, column, dataset))
    written = {_write(folder / FOLDER, benchmark, found) for benchmark, found in entries.items()}
    for path in set((folder / FOLDER).glob("*.yaml")) - written:
        if _is_ours(path):
            path.unlink()


def file_stem(benchmark: str) -> str:
    """Return a file name without suffix for a benchmark; different benchmarks get different names."""
    name = re.sub(r"[^\w.-]", "-", benchmark)
    return name if name == benchmark else f"{name}-{fingerprint(benchmark)[:8]}"


def _write(folder: Path, benchmark: str, entries: list[EvalResultEntry]) -> Path:
    """Write the results of one benchmark, unless the file there lacks `MARK`; return the file's path."""
    path = folder / f"{file_stem(benchmark)}.yaml"
    settle_file(path)
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    if not path.is_file() or _is_ours(path):
        write_atomic(path, MARK + text)
    return path


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(MARK)


def _entry(board: Board, model: Model, cell: Cell, column: Column, dataset: HubDataset) -> EvalResultEntry:
    """Convert a score to the Hub's EvalResultEntry; shares are in percent."""
    score = cell.score
    factor = 100 if column.is_share else 1
    bounds = formatting.interval(score.interval, column.is_share)
    quantization = one_line(str(model.facts.get("quantization", "none")))
    notes = [
        formatting.asked(score),
        formatting.metric(one_line(score.metric)),
        f"{100 * score.confidence:g}% interval {bounds}" if bounds else "",
        f"{score.num_items:,} items",
        quantization if quantization != "none" else "",
        one_line(model.tool),
    ]
    date = board.provenance.get(cell.source, {}).get("date")
    return EvalResultEntry(
        dataset_id=dataset.path,
        task_id=dataset.task,
        value=round(factor * score.value, 4),
        date=one_line(str(date)) if date else None,
        notes=", ".join(note for note in notes if note),
    )
