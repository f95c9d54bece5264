"""Says what an exported GGUF file costs: measured by llama.cpp, or known from the quantization report."""

import logging
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from workbench.config.model import ModelConfig
from workbench.config.names import BASE, MERGED, TRAINED
from workbench.config.publishing.export import GgufType
from workbench.errors import DataError
from workbench.evaluation.records import read_predictions
from workbench.files import write_json
from workbench.models.exported.measured_file import NUM_TEXTS, UNQUANTIZED, measure_file
from workbench.models.merging.merge import SENTENCES
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir, read_json

log = logging.getLogger("workbench")

SCHEMA_VERSION = 1


def check_file(run: Run, model: ModelConfig, path: Path) -> None:
    """Compare an exported file with its model, if `export.measure` and llama-cpp-python is installed.

    What a smaller number format than 16 bits costs by the run's quantization report is logged, too. Numbers
    of a file in the run's folder are written to export.json there.

    Args:
        run: The run.
        model: The exported model.
        path: The GGUF file.

    Raises:
        CheckpointError: llama.cpp reads another model or tokenizer from the file.
    """
    section, run_dir = run.config.export, run.run_dir
    if section.number_type not in UNQUANTIZED:
        log.info("export: %s", known_cost(section.number_type, run_dir))
    if section.path is None:
        run_dir.export_json.unlink(missing_ok=True)  # of an earlier file
    if not section.measure:
        return
    folders = {str(run_dir.merged): MERGED, str(run_dir.model): TRAINED}
    texts = [*SENTENCES, *recorded_texts(run_dir, folders.get(str(model.path), BASE))]
    difference = measure_file(path, model, section.number_type, texts)
    if difference is not None and section.path is None:
        described = {"schema_version": SCHEMA_VERSION, "file": path.name, "type": section.number_type.value}
        write_json(run_dir.export_json, described | asdict(difference))


def known_cost(number_type: GgufType, run_dir: RunDir) -> str:
    """Return a sentence about what the run's quantization report says of a number format."""
    unknown = (
        f"what {number_type.value} costs isn't known (recipe=quantization-report run_dir={run_dir.path} "
        f"quantization_report.formats=[{number_type.value}] measures it)"
    )
    file = run_dir.quantization_json
    if not file.is_file():
        return unknown
    try:
        formats = read_json(file)["formats"]
        fidelity = next(line["fidelity"] for line in formats if line["held_as"] == number_type.value)
        return (
            f"by {file.name}, {number_type.value} has a KL of {fidelity['kl']:.2g} nats a token, and keeps "
            f"{fidelity['agreement']:.1%} of the most likely next tokens"
        )
    except (ValueError, KeyError, TypeError, StopIteration):
        return unknown


def recorded_texts(run_dir: RunDir, name: str) -> list[str]:
    """Return the prompts of a model's first two recorded answers to each benchmark, at most NUM_TEXTS.

    Benchmarks are in the order of their files' names; files that can't be read are skipped.
    """
    texts = []
    for file in sorted((run_dir.all_predictions / name).glob("*.jsonl")):
        try:
            texts += [answer.context for answer in islice(read_predictions(file), 2)]
        except (DataError, OSError, UnicodeDecodeError):
            continue  # the export doesn't need them
    return texts[:NUM_TEXTS]
