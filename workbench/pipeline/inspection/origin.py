"""Lists an adapter's base, training data and scores, by its folder and the run that it belongs to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.config.names import ADAPTER
from workbench.errors import DataError
from workbench.evaluation.records import read_results
from workbench.files import file_fingerprint, local_path
from workbench.leaderboard.run_files import config_of, train_json_of
from workbench.models.adapters import adapter_config
from workbench.run_dir import RunDir
from workbench.run_record import read_record

DIGITS = 12
"""Hex digits of a fingerprint that are shown."""


def origin_lines(path: str | Path, config_json: dict[str, Any]) -> Iterator[str]:
    """Yield lines about an adapter's base and, if it is in the run folder that made it, its data and scores.

    Args:
        path: Folder or hub id of the adapter.
        config_json: Content of its adapter_config.json.

    Raises:
        CheckpointError: There is no adapter at `path`, or it is damaged.
    """
    base = config_json.get("base_model_name_or_path") or "not said"
    yield f"base: {base}; fingerprint of the adapter: {adapter_config.fingerprint(path)[:DIGITS]}"
    run = RunDir(local_path(path).parent)
    if run.adapter.resolve() != local_path(path).resolve() or not run.run_json.is_file():
        return
    try:
        record = read_record(run.run_json)
    except DataError:
        return
    yield from _training(run, record)
    yield from _scores(run)


def _training(run: RunDir, record: dict[str, Any]) -> Iterator[str]:
    config = config_of(run, record)
    data = train_json_of(run.train_json).get("data") or {}
    quantization = (config.get("quantization") or {}).get("method", "none")
    path = (config.get("data") or {}).get("path")
    digest = f", sha256 {file_fingerprint(Path(path))[:DIGITS]}" if path and Path(path).is_file() else ""
    if data:
        yield (
            f"data: {path or 'several sources'}{digest}; {data.get('num_examples', 0):,} examples, "
            f"{data.get('num_trained', 0):,} trained tokens"
        )
    trained = record.get("steps", {}).get("train", {}).get("inputs")
    if trained:
        origin = f"{str(trained)[:DIGITS]} (fingerprint of base, data and settings)"
        yield f"training: {origin}; quantization {quantization}"


def _scores(run: RunDir) -> Iterator[str]:
    if not run.results_json.is_file():
        return
    try:
        _, scores = read_results(run.results_json)
    except DataError:
        return
    adapter_scores = [score for score in scores if score.model == ADAPTER]
    texts = [
        f"{score.benchmark} {score.metric} {score.value:.4g} ({score.num_items:,} items)"
        for score in adapter_scores
    ]
    if texts:
        yield f"scores: {', '.join(texts)}"
