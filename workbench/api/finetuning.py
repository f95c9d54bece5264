"""Rows, of a file or in memory, become an adapter or a trained model."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, set_seed

from workbench.api.loading import Quantization, quantized
from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.config.data import DataConfig
from workbench.config.history import hashed
from workbench.config.model import Dtype, ModelConfig, Task
from workbench.config.quantization import QuantizationConfig
from workbench.config.train import Precision, TrainConfig
from workbench.contexts import quiet_transformers
from workbench.data.chat.saved_template import end_ids, templates_of
from workbench.data.classification import label_names, named_by_head
from workbench.data.encode import encode
from workbench.data.holdout import hold_out
from workbench.data.readers.row import Row
from workbench.data.rows import given_rows, load_rows
from workbench.data.validate import check_rows
from workbench.distributed import is_rank0
from workbench.errors import ConfigError
from workbench.files import file_fingerprint, fingerprint
from workbench.folders import new_folder
from workbench.leaderboard import formatting
from workbench.leaderboard.shown_table import Shown, Table
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.trainable import check_trainable
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.head_labels import head_labels
from workbench.models.loading import load_model, load_tokenizer, read_config
from workbench.models.tokenizers.load_tokenizer import take_template, token_ids
from workbench.plain_values import Folder, route, section
from workbench.run_dir import RunDir
from workbench.training.fit import TrainReport, fit
from workbench.training.reporting.journal import journal_lines
from workbench.trust import trusting

log = logging.getLogger("workbench")

SCHEMAS = {"adapter": AdapterConfig, "train": TrainConfig, "data": DataConfig, "model": ModelConfig}
NOT_HERE = ("path", "streaming", "score_on", "sample_answers")
"""Fields of those that are arguments here, or that only a recipe serves."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FineTuned(Shown):
    """What a training did, and where its weights are."""

    folder: Path
    """Of the adapter, or with `method="none"` of the model."""
    report: TrainReport
    journal: list[dict[str, Any]]
    """A line for every logged step."""

    def table(self) -> Table:
        """One line a fact."""
        report = self.report
        facts = {
            "steps": f"{report.steps:,} ({report.epochs:.3g} epochs)",
            "loss": f"{report.loss_first:.4f} to {report.loss_last:.4f}",
            "tokens": f"{report.tokens:,} ({report.tokens_per_second:,.0f} per second)",
            "time": formatting.duration(report.seconds),
        }
        if report.validation_loss is not None and report.validation_loss_before is not None:
            facts["validation loss"] = f"{report.validation_loss_before:.4f} to {report.validation_loss:.4f}"
        title = f"Fine-tuned into {self.folder}"
        return Table(title=title, header=["", ""], rows=[[name, fact] for name, fact in facts.items()])

    def to_pandas(self) -> Any:
        """A DataFrame with one row a logged step."""
        import pandas

        return pandas.DataFrame(self.journal)


def finetune(
    model_path: Folder,
    data: Folder | Iterable[Mapping[str, Any]],
    *,
    output: Folder,
    adapter: Folder | None = None,
    quantization: Quantization = "none",
    seed: int = 42,
    trust_code: bool = False,
    **settings: Any,
) -> FineTuned:
    """Train a LoRA adapter on rows, or with `method="none"` the model itself.

        finetune("MODEL", "rows.jsonl", output="runs/mine", quantization="nf4", rank=8, learning_rate=1e-4)

    A call that was killed and is repeated goes on from its last checkpoint in `output`. Of 200 rows or more
    some are held out, whose loss is reported; `validation_fraction=0` trains on all.

    Args:
        model_path: Folder, Hub id or `.gguf` file of the base.
        data: A file, a folder of files, a Hub id, or the rows themselves as mappings.
        output: Folder that gets checkpoints/, train.jsonl, and adapter/ or model/.
        adapter: An adapter to go on from.
        quantization: none, int8, nf4 or fp4, or a `QuantizationConfig`.
        seed: Decides the order of the rows, new weights and dropout; the global random states are set by it.
        trust_code: Run the modelling code that lies beside the weights.
        settings: Fields of `AdapterConfig`, `TrainConfig`, `DataConfig` and `ModelConfig`.

    Raises:
        WorkbenchError: An unknown setting, rows that can't be read, or a training that broke down.
    """
    chosen = route(settings, SCHEMAS, "finetune", NOT_HERE)
    path = data if isinstance(data, Folder) else None
    training = _Training(
        model=section(ModelConfig, {"path": model_path, **chosen["model"]}, "model"),
        quantization=quantized(quantization),
        adapter=section(AdapterConfig, {"path": adapter, **chosen["adapter"]}, "adapter"),
        data=section(DataConfig, {"path": path or "", **chosen["data"]}, "data"),
        train=section(TrainConfig, chosen["train"], "train"),
        seed=seed,
        run_dir=RunDir(Path(output)),
    )
    training.check()
    with trusting(trust_code):
        rows = load_rows(training.data, seed) if isinstance(data, Folder) else given_rows(data, training.data)
        return _trained(training, rows)


@dataclass(frozen=True, kw_only=True)
class _Training:
    """The sections of a training, and its folder."""

    model: ModelConfig
    quantization: QuantizationConfig
    adapter: AdapterConfig
    data: DataConfig
    train: TrainConfig
    seed: int
    run_dir: RunDir

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter is trained, not the model itself."""
        return self.adapter.method is not AdapterMethod.none or self.adapter.path is not None

    @property
    def folder(self) -> Path:
        """Where the trained weights go."""
        return self.run_dir.adapter if self.has_adapter else self.run_dir.model

    def check(self) -> None:
        """Refuse sections that don't go together, and a folder in which other weights would be lost.

        Raises:
            ConfigError: Names the key, and the way out.
        """
        check_trainable(self.model, self.quantization, self.adapter, self.train)
        is_foreign = self.folder.exists() and not self.run_dir.checkpoints.exists()
        if is_foreign or self.run_dir.run_json.exists():
            raise ConfigError(f"output: {str(self.run_dir.path)!r} is not from finetune (another folder)")

    @property
    def autocast(self) -> torch.dtype | None:
        """The 16-bit dtype of a model that is trained as float32 copies; None: no autocast."""
        dtype = read_config(self.model)[1]
        is_mixed = not self.has_adapter and self.train.precision is Precision.mixed
        return dtype if is_mixed and dtype in (torch.bfloat16, torch.float16) else None

    @property
    def inputs(self) -> str:
        """A fingerprint of what decides the trained weights besides rows and training settings."""
        sections = {"model": self.model, "quantization": self.quantization, "adapter": self.adapter}
        values = {name: hashed(values, name) for name, values in sections.items()}
        for name in ("model", "adapter"):
            path = values[name]["path"]
            values[name]["path"] = file_fingerprint(Path(path)) if path and Path(path).exists() else path
        return fingerprint(values)


def _trained(training: _Training, rows: Sequence[Row]) -> FineTuned:
    """The weights, trained on the rows and written to the folder."""
    task, adapter = training.model.task, training.adapter
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(training.model)
    take_template(tokenizer, adapter_config.chat_template(adapter.path) if adapter.path else None)
    data, labels = training.data, []
    if task is Task.sequence_classification:
        data = named_by_head(data, head_labels(training.model, adapter.path))
        labels = label_names(rows, data)
    check_rows(rows, data, task)
    split = hold_out(rows, data, task)
    encoded = encode(split.training, tokenizer, data, task, seed=training.seed, names=labels)
    held_out = encode(split.held_out, tokenizer, data, task, names=labels) if split.held_out else None
    log.info("data: %s", encoded.account)
    take_template(tokenizer, next(iter(templates_of(encoded.account.forms)), None))
    model = _trainable(training, tokenizer, labels)
    base = attach.base_model(model) if isinstance(model, PeftModel) else model
    end_at(base, end_ids(tokenizer, encoded.account.forms))
    report = fit(
        model,
        tokenizer,
        encoded.dataset,
        held_out.dataset if held_out else None,
        training.train,
        training.run_dir.path,
        training.seed,
        inputs=training.inputs,
        autocast=training.autocast,
    )
    if is_rank0():
        _save(model, tokenizer, training.folder, training.autocast)
    journal = journal_lines(training.run_dir.train_jsonl)
    return FineTuned(folder=training.folder, report=report, journal=journal)


def _trainable(training: _Training, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str]) -> Any:
    """The model with what is trained; the seed decides new weights."""
    set_seed(training.seed)
    held = replace(training.model, dtype=Dtype.float32) if training.autocast else training.model
    model = load_model(held, training.quantization, len(labels) or None)
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: number for number, name in enumerate(labels)}
    if not training.has_adapter:
        return model
    ids = token_ids(tokenizer, training.adapter.trainable_tokens, "adapter.trainable_tokens")
    return attach.attach(model, training.adapter, training.seed, ids)


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype | None) -> None:
    """Write the adapter, or the trained model in its dtype."""
    if isinstance(model, PeftModel):
        attach.check_did_something(model)
        attach.save(model, folder, tokenizer=tokenizer)
        return
    model.to(dtype or model.dtype)
    with new_folder(folder) as temporary, quiet_transformers():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
