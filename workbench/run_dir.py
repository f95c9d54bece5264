"""Names every file and folder that a run writes, and deletes half-written ones."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ConfigError
from workbench.files import LOCK, settle_file
from workbench.files import MODEL_CARD as MODEL_CARD
from workbench.files import file_fingerprint as file_fingerprint
from workbench.files import fingerprint as fingerprint
from workbench.files import part_of as part_of
from workbench.files import read_json as read_json
from workbench.files import write_atomic as write_atomic
from workbench.files import write_json as write_json
from workbench.folders import check_folder as check_folder
from workbench.folders import new_folder as new_folder
from workbench.folders import settle_folder as settle_folder

log = logging.getLogger("workbench")


@dataclass(frozen=True)
class RunDir:
    """Paths of the files and folders of one run, through which its steps exchange data; none need exist."""

    path: Path
    """The run's folder."""

    @property
    def name(self) -> str:
        """Name of the run, which is the folder's name."""
        return self.path.name

    @property
    def config_yaml(self) -> Path:
        """The run's configuration as YAML, with unresolved interpolations, version and checksum."""
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        """Finished steps with fingerprints and measurements, versions and machine: see `RunRecord`."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Folder with a subfolder for each checkpoint, from which a training resumes."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Folder of the trained or extracted adapter, in PEFT's format."""
        return self.path / "adapter"

    @property
    def combined(self) -> Path:
        """Folder of one adapter made of several (`merge.adapters`), in PEFT's format."""
        return self.path / "combined"

    @property
    def search(self) -> Path:
        """Folder of a search (`merge.search`): scores of the weights that were tried, and their curve."""
        return self.path / "search"

    @property
    def model(self) -> Path:
        """Folder of the trained model, if there is no adapter (`adapter=none`)."""
        return self.path / "model"

    @property
    def tokenizer(self) -> Path:
        """Folder of a tokenizer learned from text."""
        return self.path / "tokenizer"

    @property
    def extended(self) -> Path:
        """Folder of the base model with an extended vocabulary."""
        return self.path / "extended"

    @property
    def export(self) -> Path:
        """Folder of a model that was exported in another tool's format."""
        return self.path / "export"

    @property
    def export_gguf(self) -> Path:
        """A model exported as one GGUF file."""
        return self.path / "export.gguf"

    @property
    def export_json(self) -> Path:
        """How far `export_gguf` is from its model, as llama.cpp reads it."""
        return self.path / "export.json"

    @property
    def adapter_gguf(self) -> Path:
        """A LoRA exported as one GGUF file."""
        return self.path / "adapter.gguf"

    @property
    def train_jsonl(self) -> Path:
        """Losses and other logged values of a training, one line of JSON per log or validation."""
        return self.path / "train.jsonl"

    @property
    def loss_svg(self) -> Path:
        """Plot of the losses in train.jsonl, an SVG picture."""
        return self.path / "loss.svg"

    @property
    def train_json(self) -> Path:
        """Facts of a training: classes, rows, held-out rows, and how the trained model's answers end."""
        return self.path / "train.json"

    @property
    def held_out_jsonl(self) -> Path:
        """Rows held out of training, on which the models are compared; one per line."""
        return self.path / "held_out.jsonl"

    @property
    def merged(self) -> Path:
        """Folder of the merged model, written only after the merge was proven."""
        return self.path / "merged"

    @property
    def merge_report(self) -> Path:
        """Report of the merge's checks, as JSON."""
        return self.path / "merge_report.json"

    @property
    def results_json(self) -> Path:
        """All scores of this run's models on its benchmarks."""
        return self.path / "results.json"

    @property
    def contamination_json(self) -> Path:
        """Benchmark items that occur in the training rows, and scores without these items."""
        return self.path / "contamination.json"

    @property
    def cache(self) -> Path:
        """Folder of cached answers, from which an interrupted evaluation continues."""
        return self.path / "cache"

    @property
    def lock(self) -> Path:
        """File that a process locks while it uses the run's folder."""
        return self.path / LOCK

    @property
    def tensorboard(self) -> Path:
        """Folder of a training's event files for TensorBoard."""
        return self.path / "tensorboard"

    def check_links(self) -> None:
        """Check that the folders whose files steps overwrite (checkpoints, predictions, ...) are not links.

        Raises:
            ConfigError: One of these folders is a link.
        """
        predictions = self.all_predictions
        folders = (self.checkpoints, self.cache, self.tensorboard, self.quantization)
        for folder in (*folders, predictions, *predictions.glob("*")):
            if folder.is_symlink():
                raise ConfigError(
                    f"{folder}: a link to {os.readlink(folder)!r}, whose files would be written over (put a "
                    "folder in its place; the run's folder itself may be a link)"
                )

    @property
    def resume_check(self) -> Path:
        """Folder of the resume_check step's trainings, which the step deletes if the check succeeds."""
        return self.path / "resume-check"

    @property
    def resume_check_json(self) -> Path:
        """Result of the resume_check step: whether resumed and uninterrupted weights are equal."""
        return self.path / "resume_check.json"

    @property
    def failure_json(self) -> Path:
        """Reason why a leaderboard couldn't score the run's model; missing once it was scored."""
        return self.path / "failure.json"

    @property
    def audit_json(self) -> Path:
        """Result of the audit step: which recorded answers differ from new ones."""
        return self.path / "audit.json"

    @property
    def verify_endpoint_json(self) -> Path:
        """Result of the verify_endpoint step: how far an endpoint's answers are from the recorded ones."""
        return self.path / "verify_endpoint.json"

    @property
    def diagnosis_json(self) -> Path:
        """Findings of the diagnose step about a merged model."""
        return self.path / "diagnosis.json"

    @property
    def quantization(self) -> Path:
        """Folder of the answers that a quantization report compares, by model and number format."""
        return self.path / "quantization"

    @property
    def quantization_json(self) -> Path:
        """Result of the quantization_report step: quality, size and speed in each number format."""
        return self.path / "quantization_report.json"

    @property
    def quantization_md(self) -> Path:
        """The quantization report as tables in Markdown."""
        return self.path / "quantization_report.md"

    @property
    def quantization_svg(self) -> Path:
        """The quantization report as a picture: size against divergence and score."""
        return self.path / "quantization_report.svg"

    @property
    def all_predictions(self) -> Path:
        """Folder with a subfolder of recorded answers for each model: predictions/MODEL/BENCHMARK.jsonl."""
        return self.path / "predictions"

    def predictions(self, model: str, benchmark: str) -> Path:
        """Return the file of one model's answers on a benchmark, one line per item.

        Args:
            model: base, adapter, merged or trained.
            benchmark: Name of the benchmark.
        """
        return self.all_predictions / model / f"{benchmark}.jsonl"


def clear_unfinished(run_dir: RunDir) -> None:
    """Delete the half-written files and folders that a killed process left in a run folder.

    The caller must have locked the folder: temporary files of a process that still writes are deleted too.
    """
    folders = [run_dir.adapter, run_dir.combined, run_dir.model, run_dir.merged]
    folders += [run_dir.tokenizer, run_dir.extended, run_dir.search]
    for folder in (*folders, run_dir.export):
        settle_folder(folder)
    part_of(run_dir.export_gguf).unlink(missing_ok=True)
    files = [run_dir.config_yaml, run_dir.run_json, run_dir.train_json, run_dir.train_jsonl]
    cards = [folder / MODEL_CARD for folder in folders]
    files += [run_dir.results_json, run_dir.merge_report, run_dir.held_out_jsonl, run_dir.loss_svg]
    files += [run_dir.contamination_json, run_dir.quantization_json, run_dir.quantization_md]
    files.append(run_dir.quantization_svg)
    for file in (*files, *cards):
        settle_file(file)
    predictions = run_dir.all_predictions.glob("*/.*.jsonl.????????")
    for left in (*predictions, *run_dir.quantization.glob("*/*/.*.jsonl.????????")):
        if left.is_file() or left.is_symlink():
            left.unlink()
