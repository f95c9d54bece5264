"""Fine-tunes a model on rows, from a file or in memory, into an adapter or a trained model."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.api.examples import Examples, encode_examples, name_classes
from workbench.api.loading import Quantization, quantized
from workbench.api.training import TrainingSections, train_weights, trained_folder
from workbench.config.adapter import AdapterConfig
from workbench.config.data import DataConfig
from workbench.config.history import hashed
from workbench.config.model import ModelConfig, Task
from workbench.config.train import TrainConfig
from workbench.data.classification import label_names
from workbench.data.encode import Encoding
from workbench.data.holdout import hold_out
from workbench.data.readers.row import Row
from workbench.data.rows import given_rows, load_rows
from workbench.data.validate import check_rows
from workbench.errors import ConfigError
from workbench.files import file_fingerprint, fingerprint
from workbench.leaderboard import formatting
from workbench.leaderboard.shown_table import Shown, Table
from workbench.models.adapters import adapter_config
from workbench.models.adapters.trainable import check_trainable
from workbench.models.dtypes import autocast_dtype
from workbench.models.loading import load_tokenizer, read_config
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.plain_values import Folder, route, section
from workbench.reading_once import reading_once
from workbench.run_dir import RunDir
from workbench.training.fit import TrainReport
from workbench.training.reporting.journal import journal_lines
from workbench.trust import trusting

log = logging.getLogger("workbench")

SCHEMAS = {"adapter": AdapterConfig, "train": TrainConfig, "data": DataConfig, "model": ModelConfig}
NOT_HERE = ("path", "streaming", "score_on", "sample_answers")
"""Fields that `finetune` doesn't take: it has arguments for them, or only a recipe supports them."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FineTuned(Shown):
    """Result of `finetune`: the folder of the trained weights, the report and the journal."""

    folder: Path
    """Folder of the adapter, or with `method="none"` of the model."""
    report: TrainReport
    """Steps, losses, numbers of tokens, time and memory of the training."""
    journal: list[dict[str, Any]]
    """The lines of train.jsonl, one per log or validation: step, loss, learning_rate, ..."""

    def table(self) -> Table:
        """Return a table of steps, losses, tokens and time."""
        report = self.report
        first, last = f"{report.loss_first:.4f}", f"{report.loss_last:.4f}"
        facts = {
            "steps": f"{report.steps:,} ({report.epochs:.3g} epochs)",
            "loss": last if first == last else f"{first} to {last}",
            "tokens": f"{report.tokens:,} ({report.tokens_per_second:,.0f} per second)",
            "time": formatting.duration(report.seconds),
        }
        if report.validation_loss is not None and report.validation_loss_before is not None:
            facts["validation loss"] = f"{report.validation_loss_before:.4f} to {report.validation_loss:.4f}"
        title = f"Fine-tuned into {self.folder}"
        return Table(title=title, header=["", ""], rows=[[name, fact] for name, fact in facts.items()])

    def to_pandas(self) -> Any:
        """Return `journal` as a DataFrame, one row per line; needs pandas."""
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
    """Train a LoRA adapter on rows, or with `method="none"` all weights of the model.

        finetune("MODEL", "rows.jsonl", output="runs/mine", quantization="nf4", rank=8, learning_rate=1e-4)

    If a call is killed, the same call resumes from the last checkpoint in `output`. Of 200 rows or more, some
    are held out to report their loss; `validation_fraction=0` trains on all rows.

    Args:
        model_path: Folder, Hub id or `.gguf` file of the base model.
        data: File, folder of files, Hub id, or the rows as mappings.
        output: Folder that gets checkpoints/, train.jsonl, and adapter/ or model/.
        adapter: Folder or Hub id of an adapter to train further; None: a new adapter.
        quantization: none, int8, nf4 or fp4, or a `QuantizationConfig`.
        seed: Seed of row order, new weights and dropout. The global random states are set to it.
        trust_code: Run modelling code from the model's folder.
        settings: Fields of `AdapterConfig`, `TrainConfig`, `DataConfig` and `ModelConfig`; of a name that two
            of them have, the first one's.

    Returns:
        The folder of the weights, the report of the training and its journal.

    Raises:
        WorkbenchError: A setting is unknown, the rows can't be read, `output` holds something else, or the
            training diverged.
    """
    chosen = route(settings, SCHEMAS, "finetune", NOT_HERE)
    _check_no_effect(adapter, chosen["adapter"])
    path = data if isinstance(data, Folder) else None
    sections = TrainingSections(
        model=section(ModelConfig, {"path": model_path, **chosen["model"]}, "model"),
        quantization=quantized(quantization),
        adapter=section(AdapterConfig, {"path": adapter, **chosen["adapter"]}, "adapter"),
        train=section(TrainConfig, chosen["train"], "train"),
        seed=seed,
    )
    data_section = section(DataConfig, {"path": path or "", **chosen["data"]}, "data")
    run_dir = RunDir(Path(output))
    check_trainable(sections.model, sections.quantization, sections.adapter, sections.train)
    _check_output(run_dir, sections)
    with trusting(trust_code), reading_once():
        rows = load_rows(data_section, seed) if isinstance(data, Folder) else given_rows(data, data_section)
        examples = _encoded(rows, data_section, sections)
        log.info("data: %s", examples.training.account)
        dtype = read_config(sections.model)[1]
        autocast = autocast_dtype(dtype, sections.adapter, sections.train)
        _, report = train_weights(sections, examples, run_dir, inputs=_inputs(sections), autocast=autocast)
    folder = trained_folder(run_dir, sections.adapter)
    return FineTuned(folder=folder, report=report, journal=journal_lines(run_dir.train_jsonl))


def _check_no_effect(adapter: Folder | None, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if settings of a new adapter are given together with an adapter to train further."""
    if adapter is not None and settings:
        name = next(iter(settings))
        raise ConfigError(
            f"{name}: has no effect, the adapter at {str(adapter)!r} has its own (leave it out)"
        )


def _check_output(run_dir: RunDir, sections: TrainingSections) -> None:
    """Check that `finetune` may write to the output folder.

    Raises:
        ConfigError: The folder has weights that `finetune` didn't write, or belongs to a recipe's run.
    """
    is_foreign = trained_folder(run_dir, sections.adapter).exists() and not run_dir.checkpoints.exists()
    if is_foreign or run_dir.run_json.exists():
        raise ConfigError(f"output: {str(run_dir.path)!r} is not from finetune (another folder)")


def _encoded(rows: Sequence[Row], data: DataConfig, sections: TrainingSections) -> Examples:
    """Hold out validation rows, and encode all rows with the model's tokenizer.

    The chat template is that of the adapter to train further, if there is one.
    """
    model, adapter = sections.model, sections.adapter
    tokenizer = load_tokenizer(model)
    take_template(tokenizer, adapter_config.chat_template(adapter.path) if adapter.path else None)
    data = name_classes(data, model, adapter.path)
    check_rows(rows, data, model.task)
    labels = label_names(rows, data) if model.task is Task.sequence_classification else []
    encoding = Encoding(tokenizer, data, model.task, sections.seed, labels)
    return encode_examples(hold_out(rows, data, model.task), encoding)


def _inputs(sections: TrainingSections) -> str:
    """Return a fingerprint of the sections model, quantization and adapter, and of local files' contents."""
    values = {name: hashed(getattr(sections, name), name) for name in ("model", "quantization", "adapter")}
    for name in ("model", "adapter"):
        path = values[name]["path"]
        values[name]["path"] = file_fingerprint(Path(path)) if path and Path(path).exists() else path
    return fingerprint(values)
