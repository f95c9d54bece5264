"""Writes a model card and the Hub's evaluation results into the folders of a run's models."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from workbench.config.names import ADAPTER, MERGED, TRAINED
from workbench.files import MODEL_CARD, read_json
from workbench.leaderboard.board import Board, Model
from workbench.leaderboard.collect import Run
from workbench.leaderboard.outputs import card, hub_results
from workbench.leaderboard.outputs.hub_results import HubDataset
from workbench.leaderboard.rows.proof import proof_of

TRAINED_ON, MERGED_FROM = "trained_on.json", "merged_from.json"
"""Files in the folder of an adapter and of a merged model that record their base."""
LONGEST_CONFIG = 4 * 2**20
"""Largest config.yaml that is read, in bytes."""


def write(board: Board, run: Run) -> list[Path]:
    """Write card and evaluation results into the folders of the models that a run trained or merged.

    Files that the user wrote stay. Models without a row on the board or without a folder are left out.

    Returns:
        The paths of the cards that changed.
    """
    values, changed = config_of_run(run.files.config_yaml), []
    datasets = datasets_of_run(values)
    for model, folder in _models(board, run):
        facts = card.CardFacts(
            folder=folder,
            base=run.base_model,
            base_hub_id=base_hub_id(folder),
            task=run.task,
            proof=proof_of(run.merge_report) if model.role == MERGED else "",
            datasets=datasets,
            template_arguments=template_arguments_of_run(values),
        )
        hub_results.write(board, model, datasets, folder)
        if card.write(board, model, facts):
            changed.append(folder / MODEL_CARD)
    return changed


def base_hub_id(folder: Path) -> str:
    """Return the base's Hub id, as recorded in the folder of an adapter or merged model; empty if unknown."""
    for name in (TRAINED_ON, MERGED_FROM):
        try:
            values: Any = read_json(folder / name) if (folder / name).is_file() else {}
        except (OSError, ValueError):
            continue
        values = values.get("base", values) if isinstance(values, dict) else {}
        hub_id = values.get("hub_id") if isinstance(values, dict) else None
        if isinstance(hub_id, str):
            return hub_id
    return ""


def _models(board: Board, run: Run) -> Iterator[tuple[Model, Path]]:
    """Yield the run's adapter, merged and trained model that have rows and folders, with their folders."""
    adapter = run.files.adapter if run.files.adapter.is_dir() else run.files.combined
    folders = {ADAPTER: adapter, MERGED: run.files.merged, TRAINED: run.files.model}
    for model in board.models:
        folder = folders.get(model.role)
        if folder is not None and run.label in model.sources and model.role in run.models and folder.is_dir():
            yield model, folder


def config_of_run(config: Path) -> Mapping[str, Any]:
    """Return the values of a run's config.yaml; an empty mapping if it is missing or can't be read."""
    try:
        if not config.is_file() or config.stat().st_size > LONGEST_CONFIG:
            return {}
        values: Any = yaml.load(config.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return values if isinstance(values, Mapping) else {}


def datasets_of_run(values: Mapping[str, Any]) -> dict[str, HubDataset]:
    """Return benchmark -> data set on the Hub from the values of a run's config.yaml."""
    benchmarks = values.get("benchmarks")
    return hub_results.datasets_of(benchmarks) if isinstance(benchmarks, Mapping) else {}


def template_arguments_of_run(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the distinct arguments with which the chat template rendered a run's training rows."""
    data = values.get("data")
    data = data if isinstance(data, Mapping) else {}
    sources = data.get("sources")
    sections = list(sources.values()) if isinstance(sources, Mapping) and sources else [data]
    found: list[dict[str, Any]] = []
    for section in sections:
        own = section.get("template_arguments") if isinstance(section, Mapping) else None
        arguments = own or data.get("template_arguments")
        if isinstance(arguments, Mapping) and arguments and arguments not in found:
            found.append({str(name): value for name, value in arguments.items()})
    return found
