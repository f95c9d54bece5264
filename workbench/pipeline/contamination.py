"""Searches the training rows for benchmark items, and scores the models without the items found."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from workbench.data.contamination.search import VERSION, Contamination, contamination
from workbench.data.rows import Row
from workbench.data.streaming import BLOCK, are_held_out, streamed_rows
from workbench.distributed import is_rank0
from workbench.errors import DataError
from workbench.evaluation.contamination_items import THRESHOLDS, benchmark_contamination, item_of
from workbench.evaluation.contamination_report import (
    BenchmarkContamination,
    ContaminationReport,
    clean_score,
    read_contamination,
    write_contamination,
)
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import read_predictions, read_results
from workbench.pipeline.held_out.rows_file import read_rows
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import row_inputs
from workbench.progress import Progress
from workbench.run_dir import fingerprint

log = logging.getLogger("workbench")


def check_contamination(run: Run, benchmarks: Mapping[str, PreparedBenchmark]) -> None:
    """Search the training rows for the items of the benchmarks; write contamination.json, and log matches.

    A benchmark is searched for again only if the rows or its items have changed. A run without training rows
    gets no file. Ranks other than 0 do nothing.

    Raises:
        DataError: A row can't be read.
    """
    if not run.config.data.paths() or not benchmarks or not is_rank0():
        return
    data, known = rows_fingerprint(run), known_contamination(run)
    if known is None or known.data != data:
        known = ContaminationReport(data=data, num_rows=0, benchmarks={}, thresholds=THRESHOLDS)
    inputs = {name: search_fingerprint(benchmark, data) for name, benchmark in benchmarks.items()}
    waiting = {
        name: benchmark
        for name, benchmark in benchmarks.items()
        if name not in known.benchmarks or known.benchmarks[name].inputs != inputs[name]
    }
    if waiting:
        results, num_rows = searched(run, waiting)
        new = {name: benchmark_contamination(result, inputs[name]) for name, result in results.items()}
        known = replace(known, num_rows=num_rows, benchmarks=known.benchmarks | new, thresholds=THRESHOLDS)
        write_contamination(run.run_dir.contamination_json, known)
    for name in benchmarks:
        if known.benchmarks[name].found:
            log.warning("%s", summary(name, known.benchmarks[name]))


def searched(run: Run, benchmarks: Mapping[str, PreparedBenchmark]) -> tuple[dict[str, Contamination], int]:
    """Search the training rows for the benchmarks' items, with a progress bar.

    Returns (benchmark name -> items of it in the rows, number of rows searched).
    """
    items = {
        name: [item_of(example) for example in benchmark.examples] for name, benchmark in benchmarks.items()
    }
    is_streamed = run.config.data.streaming
    total = 0 if is_streamed else len(run.hold_out.training)
    with Progress("contamination", total, unit="rows", is_shown=not is_streamed) as progress:
        results = contamination(items, trained_rows(run), progress.advance)
        return results, progress.done


def summary(name: str, result: BenchmarkContamination) -> str:
    """Return the log line that says how many items of a benchmark, at least one, are in the training rows."""
    kinds = Counter(item.kind for item in result.found)
    first = result.found[0]
    return (
        f"benchmarks.{name}: {len(result.found):,} of {result.num_items:,} items are in the training rows "
        f"({', '.join(f'{count:,} {kind}' for kind, count in kinds.items())}), the first, {first.id!r}, in "
        f"{first.row} (contamination.json lists them, with scores of the other items)"
    )


def known_contamination(run: Run) -> ContaminationReport | None:
    """Read the run's contamination.json; None if it is missing, or damaged, which is logged."""
    try:
        return read_contamination(run.run_dir.contamination_json)
    except DataError as error:
        log.warning("%s (the rows are searched again)", error)
        return None


def rows_fingerprint(run: Run) -> str:
    """Return the fingerprint of the training rows.

    It covers the data section with the content of its files, the seed, and the lines of the held-out rows.

    Raises:
        DataError: held_out.jsonl was changed since the training.
    """
    data = run.config.data
    section = {**row_inputs(data), "validation_fraction": data.validation_fraction or 0}
    held_out = [row.where for row in read_rows(run.run_dir)]
    return fingerprint([section, run.config.seed, held_out])


def search_fingerprint(benchmark: PreparedBenchmark, data: str) -> str:
    """Return the fingerprint of a benchmark's items and the training rows.

    A benchmark with the same fingerprint isn't searched for again.

    Args:
        benchmark: The benchmark with its items.
        data: Fingerprint of the training rows.
    """
    items = [asdict(item_of(example)) for example in benchmark.examples]
    return fingerprint([VERSION, data, items])


def trained_rows(run: Run) -> Iterator[Row]:
    """Yield the rows that the run trains on: not those that are held out, or that held_out.jsonl has.

    Raises:
        DataError, ConfigError: A row can't be read, or held_out.jsonl was changed since the training.
    """
    config = run.config
    held_out = {row.where for row in read_rows(run.run_dir)}
    if not config.data.streaming:
        yield from (row for row in run.hold_out.training if row.where not in held_out)
        return
    rows = streamed_rows(config.data, config.seed)
    while block := list(islice(rows, BLOCK)):
        flags = are_held_out(block, config.data, config.model.task)
        yield from (row for row, is_held in zip(block, flags, strict=True) if not is_held)


def write_clean_scores(run: Run) -> None:
    """Compute scores on the items that are not in the training rows, and add them to contamination.json.

    They are computed from results.json and the recorded predictions. Benchmarks without items in the training
    rows get no such scores. Ranks other than 0 do nothing.

    Raises:
        DataError: results.json or a predictions file is damaged.
        OSError, UnicodeDecodeError: One of them can't be read.
    """
    report = known_contamination(run) if is_rank0() and run.run_dir.results_json.is_file() else None
    if report is None or not any(facts.found for facts in report.benchmarks.values()):
        return
    clean: dict[str, dict[str, dict[str, dict[str, Any]]]] = {name: {} for name in report.benchmarks}
    for score in read_results(run.run_dir.results_json)[1]:
        facts = report.benchmarks.get(score.benchmark)
        path = run.run_dir.predictions(score.model, score.benchmark)
        if facts is None or not facts.found or not path.is_file():
            continue
        value = clean_score(score, read_predictions(path), {item.id for item in facts.found})
        if value is not None:
            clean[score.benchmark].setdefault(score.model, {})[score.metric] = value
    benchmarks = {name: replace(facts, clean=clean[name]) for name, facts in report.benchmarks.items()}
    if benchmarks != report.benchmarks:
        write_contamination(run.run_dir.contamination_json, replace(report, benchmarks=benchmarks))
