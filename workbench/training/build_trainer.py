"""A Trainer put together for one training: its batches, its arguments and all that looks on."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback, is_tensorboard_available

from workbench.config.train import TrainConfig
from workbench.data.collate import Collator
from workbench.distributed import is_rank0, rank_and_world_size
from workbench.errors import ConfigError
from workbench.run_dir import RunDir
from workbench.training.arguments import total_steps, training_arguments
from workbench.training.batches import Batches
from workbench.training.callbacks import Patience, ProgressBar, Seal, Steps
from workbench.training.counters import Meter
from workbench.training.memory_release import GiveBack
from workbench.training.packing_support import keeps_texts_apart
from workbench.training.reporting.journal import Journal
from workbench.training.trainer import MeteredTrainer, Score, classification_loss

log = logging.getLogger("workbench")


@dataclass(frozen=True)
class Training:
    """What is trained, on what and how: the arguments of `fit`."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    rows: Dataset
    held_out: Dataset | None
    train: TrainConfig
    folder: Path
    seed: int
    score: Score | None
    autocast: torch.dtype | None = None

    @property
    def metric(self) -> str | None:
        """What tells the best checkpoint: score or loss; None: nothing does."""
        if self.score is not None:
            return "score"
        return "loss" if self.held_out else None


def assembled(training: Training, identity: str, meter: Meter, progress: ProgressBar) -> MeteredTrainer:
    """The Trainer of a training, ready to be called.

    Args:
        training: Of which.
        identity: Its fingerprint, for the checkpoints.
        meter: Told of each micro-batch.
        progress: Told of each step.

    Raises:
        ConfigError: The rows don't fit the model, or the batches that are asked for.
    """
    model, rows, train, seed = training.model, training.rows, training.train, training.seed
    joined = rows_are_joined(model, rows)
    batches = Batches(rows["length"], train, seed, joined=joined, ranks=rank_and_world_size())
    trainer = MeteredTrainer(
        meter=meter,
        batches=batches,
        lora_plus_ratio=train.lora_plus_ratio,
        deterministic=train.deterministic,
        score=training.score,
        model=model,
        args=training_arguments(
            train,
            RunDir(training.folder).checkpoints,
            seed,
            steps=total_steps(len(batches), train),
            metric=training.metric,
            model=model,
            autocast=training.autocast,
        ),
        train_dataset=rows,
        eval_dataset=training.held_out or [],
        data_collator=Collator(training.tokenizer.pad_token_id, joined),
        compute_loss_func=classification_loss if is_classified(rows) else None,
        callbacks=[
            Steps(meter, num_outcomes(model, rows), rows),
            *writers(training, identity, meter),
            *([GiveBack()] if model.device.type == "cpu" else []),
            *([progress] if is_rank0() else []),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def writers(training: Training, identity: str, meter: Meter) -> list[TrainerCallback]:
    """What writes down the training, in order: who looks into the journal comes after it."""
    train, folder = training.train, training.folder
    journal = [Journal(folder), *tensorboard(training)] if is_rank0() else []
    patient = [Patience(RunDir(folder).train_jsonl, train.patience)] if train.patience else []
    return [*journal, *patient, Seal(identity, meter)]


def tensorboard(training: Training) -> list[TrainerCallback]:
    """The callback that writes event files for TensorBoard, if they are asked for and it is installed."""
    if "tensorboard" not in training.train.report_to:
        return []
    if not is_tensorboard_available():  # type: ignore[no-untyped-call]
        log.info("train.report_to: no curves for TensorBoard (pip install tensorboard for them)")
        return []
    callback = TensorBoardCallback()  # type: ignore[no-untyped-call]
    callback.logging_dir = str(RunDir(training.folder).tensorboard)
    return [callback]


def rows_are_joined(model: PreTrainedModel | PeftModel, dataset: Dataset) -> bool:
    """Whether the rows of a batch can be joined end to end, which saves all padding, instead of padded.

    Raises:
        ConfigError: The rows hold several texts each, which the model doesn't keep apart.
    """
    if is_classified(dataset):
        return False
    model.eval()
    if keeps_texts_apart(model):
        return True
    if "position_ids" in dataset.column_names:
        raise ConfigError(
            "data.packing: this model lets the texts packed in a row see each other (set it false)"
        )
    return False


def num_outcomes(model: PreTrainedModel | PeftModel, dataset: Dataset) -> int:
    """The tokens or classes that a prediction chooses from."""
    config = model.config.get_text_config()
    return cast(int, config.num_labels if is_classified(dataset) else config.vocab_size)


def is_classified(dataset: Dataset) -> bool:
    """Whether the rows have a class or a number each, and no labels on their tokens."""
    return not isinstance(dataset[0]["labels"], list)
