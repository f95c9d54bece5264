"""The quantization_report step: measures what each number format of a model's weights costs."""

import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from workbench.config.history import hashed
from workbench.config.inspection.quantization_report import NumberFormat
from workbench.evaluation.inference.encoding import context_length
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.files import write_atomic, write_json
from workbench.models.device import torch_device
from workbench.models.loading import outline
from workbench.pipeline.checking.questions import answerable
from workbench.pipeline.inspection.quantization_ways import BITSANDBYTES, in_bits, ways
from workbench.pipeline.quantization_report.gains import Gain, gains
from workbench.pipeline.quantization_report.measure import Measured, Series
from workbench.pipeline.quantization_report.picture import picture_svg
from workbench.pipeline.quantization_report.probe import probe_rows
from workbench.pipeline.quantization_report.report import Report, as_json, lines
from workbench.pipeline.quantization_report.speeds import Speeds, alternate, prompt_of
from workbench.pipeline.quantization_report.subject import Subject, base_of, subject_of
from workbench.pipeline.quantization_report.tables import markdown, tables
from workbench.pipeline.run_results import scoring_fingerprint
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import skip_finished
from workbench.run_dir import fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

SCRATCH = "scratch-"
"""Prefix of the names of folders for intermediate files, which a killed process leaves behind."""


def quantization_report(run: Run) -> None:
    """Measure a model in several number formats, compare each with the unquantized model, and report.

    The report is written into the run's folder as JSON, Markdown and SVG, and its tables are printed. A
    finished report is not repeated.

    Raises:
        WorkbenchError: The model can't be loaded or asked in one of these number formats.
    """
    run_dir, benchmarks = run.run_dir, run.benchmarks()
    subject = subject_of(run)
    inputs = fingerprint(report_inputs(run, subject, benchmarks))
    record = RunRecord(run_dir.run_json)
    is_finished = record.is_finished("quantization_report", inputs, run_dir.quantization_json)
    if skip_finished("quantization-report", is_finished, run.config):
        log.info("quantization-report: %s", run_dir.quantization_md)
        return
    with scratch_folder(run) as folder:
        report = made(run, subject, answerable(benchmarks, run, subject.tokenizer), folder)
    write_json(run_dir.quantization_json, as_json(report))
    write_atomic(run_dir.quantization_md, markdown(report))
    write_atomic(run_dir.quantization_svg, picture_svg(report))
    show(report)
    files = (run_dir.quantization_json, run_dir.quantization_md, run_dir.quantization_svg)
    log.info("quantization-report: %s", ", ".join(map(str, files)))
    record.finish("quantization_report", inputs, files[0], {}, files=files[1:])


def report_inputs(run: Run, subject: Subject, benchmarks: Mapping[str, PreparedBenchmark]) -> list[Any]:
    """Return settings and fingerprints of everything that the report depends on, except the machine."""
    config = run.config
    sections = [hashed(config.quantization_report, "quantization_report")]
    sections.append(hashed(config.quantization, "quantization"))
    scored = [scoring_fingerprint(subject.identity, benchmark, config) for benchmark in benchmarks.values()]
    return [*sections, *scored]


@contextmanager
def scratch_folder(run: Run) -> Iterator[Path]:
    """Yield a new folder, in the run's folder, for GGUF files and logits; delete it after the `with` block.

    Folders that killed processes have left are deleted first.
    """
    folder = run.run_dir.quantization
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
        yield Path(scratch)


def made(run: Run, subject: Subject, benchmarks: Mapping[str, PreparedBenchmark], scratch: Path) -> Report:
    """Measure the model in all number formats, then the speeds and the gain over its base; return the report.

    Args:
        run: The run.
        subject: The model.
        benchmarks: Name -> benchmark with the items to ask.
        scratch: Folder for GGUF files and logits.
    """
    settings = run.config.quantization_report
    probe = probe_rows(benchmarks, subject.tokenizer, settings.num_texts, settings.max_tokens)
    series = Series(run=run, subject=subject, benchmarks=benchmarks, scratch=scratch, probe=probe)
    measured = measure_all(series, ways(run))
    series.forget_reference()
    speeds = measure_speeds(run, subject, probe, [one.number_format for one in measured])
    return Report(
        model=f"{run.run_dir.name}/{subject.name}" if subject.name != "base" else str(subject.model.path),
        lines=lines(measured, speeds),
        gains=measure_gains(run, measured, benchmarks, scratch),
        machine=machine(run),
    )


def measure_all(series: Series, formats: Sequence[NumberFormat]) -> list[Measured]:
    """Measure a model in each number format, unquantized first."""
    measured = []
    for number, number_format in enumerate(formats, 1):
        log.info(
            "quantization-report: %s as %s (%d of %d)",
            series.subject.name,
            number_format.value,
            number,
            len(formats),
        )
        measured.append(series.measure(number_format))
    return measured


def measure_speeds(
    run: Run, subject: Subject, probe: list[list[int]], formats: Sequence[NumberFormat]
) -> dict[NumberFormat, Speeds]:
    """Measure speed and memory in all number formats but GGUF, which is computed in float32 here.

    The result is empty if `quantization_report.rounds` is 0, and lacks formats whose process failed.

    Args:
        run: The run.
        subject: The model.
        probe: Token ids of the probe texts.
        formats: The number formats of the report.
    """
    rounds = run.config.quantization_report.rounds
    if not rounds:
        return {}
    loaded = {
        number_format: (subject.model, in_bits(run.config.quantization, number_format))
        for number_format in formats
        if number_format in (NumberFormat.none, *BITSANDBYTES)
    }
    context = context_length(outline(subject.model), subject.tokenizer)
    return alternate(loaded, prompt_of(probe, context), rounds)


def measure_gains(
    run: Run, merged: list[Measured], benchmarks: Mapping[str, PreparedBenchmark], scratch: Path
) -> list[Gain]:
    """Score the base of the run's adapter in the same number formats, and compare the gains over it.

    The result is empty without `quantization_report.gain`, an adapter, a base or a second number format.

    Args:
        run: The run.
        merged: Measurements of the merged model, unquantized first.
        benchmarks: Name -> benchmark with the items to ask.
        scratch: Folder for GGUF files and logits.
    """
    base = base_of(run, scratch / "base") if run.config.quantization_report.gain else None
    if base is None or len(merged) == 1:
        return []
    series = Series(run=run, subject=base, benchmarks=benchmarks, scratch=scratch)
    return gains(merged, measure_all(series, [one.number_format for one in merged]), benchmarks)


def machine(run: Run) -> dict[str, Any]:
    """Return `system`, `processors` (their number) and `device` of this machine, for the report.

    Raises:
        DeviceError: `model.device` is CUDA, which this machine lacks.
    """
    device = torch_device(run.config.model.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"system": platform.platform(), "processors": os.cpu_count(), "device": f"{device.type}, {name}"}


def show(report: Report) -> None:
    """Print the report's tables, and how much of the adapter's gain over the base each format keeps."""
    print("\n\n".join(table.text() for table in tables(report)), flush=True)
    if report.gains:
        print("\nThe adapter's gain:", flush=True)
    for gain in report.gains:
        print(gain.sentence, flush=True)
