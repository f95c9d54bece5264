"""Builds the Trainer of a training: its batches, its arguments and its callbacks."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate.utils import AutocastKwargs
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback, is_tensorboard_available

from workbench.config.train import TrainConfig
from workbench.data.collate import Collator
from workbench.distributed import is_rank0, rank_and_world_size
from workbench.errors import ConfigError
from workbench.log_once import log_once
from workbench.run_dir import RunDir
from workbench.training.arguments import total_steps, training_arguments
from workbench.training.batches import Batches
from workbench.training.callbacks import EarlyStopping, ProgressBar, StepCallback, WriteManifest
from workbench.training.counters import TrainCounters
from workbench.training.memory_release import ReleaseMemory
from workbench.training.packing_support import packing_fault
from workbench.training.rank_allocation import AllocateRanks, OrthogonalityLoss, adalora_layers
from workbench.training.reporting.journal import Journal
from workbench.training.trainer import CountingTrainer, Score, classification_loss

log = logging.getLogger("workbench")


@dataclass(frozen=True)
class Training:
    """The arguments of `fit`, which explains them: model, rows, settings and folder of a training."""

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
        """Metric that decides which checkpoint is best: `score` or `loss`; None: nothing is evaluated."""
        if self.score is not None:
            return "score"
        return "loss" if self.held_out else None


def build_trainer(
    training: Training,
    identity: str,
    counters: TrainCounters,
    progress: ProgressBar,
    second_term: OrthogonalityLoss | None = None,
) -> CountingTrainer:
    """Build a Trainer that is ready to train.

    A language model is in evaluation mode afterwards; a classifier keeps its mode.

    Args:
        training: The arguments of `fit`.
        identity: Fingerprint of the training, for its checkpoints.
        counters: Counters that the Trainer updates with each microbatch.
        progress: Progress bar that the Trainer updates with each step.
        second_term: Term of the loss whose gradients are added once a step; None: there is none.

    Raises:
        ConfigError: A row is longer than `train.max_tokens_per_batch`, the model lets texts packed in a row
            (`data.packing`) attend to each other, or AdaLoRA has no steps to remove ranks in.
    """
    model, rows, train, seed = training.model, training.rows, training.train, training.seed
    joined = can_join_rows(model, rows)
    batches = Batches(rows["length"], train, seed, joined=joined, ranks=rank_and_world_size())
    steps = total_steps(len(batches), train)
    trainer = CountingTrainer(
        counters=counters,
        batches=batches,
        lora_plus_ratio=train.lora_plus_ratio,
        deterministic=train.deterministic,
        offloading=train.activation_offloading and model.device.type != "cpu",
        score=training.score,
        second_term=second_term,
        model=model,
        args=training_arguments(
            train,
            RunDir(training.folder).checkpoints,
            seed,
            steps=steps,
            metric=training.metric,
            model=model,
            autocast=training.autocast,
        ),
        train_dataset=rows,
        eval_dataset=training.held_out or [],
        data_collator=Collator(training.tokenizer.pad_token_id, joined),
        compute_loss_func=classification_loss if is_classification(rows) else None,
        callbacks=callbacks(training, identity, counters, progress, steps),
    )
    # The Trainer refuses to store the optimizer's state of split weights. Those of an adapter aren't split.
    trainer.args.save_only_model = False
    trainer.remove_callback(PrinterCallback)
    if training.autocast is None:  # else float16's loss scaling would bring autocast with it
        trainer.accelerator.autocast_handler = AutocastKwargs(enabled=False)
    return trainer


def callbacks(
    training: Training, identity: str, counters: TrainCounters, progress: ProgressBar, steps: int
) -> list[TrainerCallback]:
    """Return the Trainer's callbacks, in the order in which it calls them; `progress` is rank 0's alone.

    Raises:
        ConfigError: AdaLoRA has no steps to remove ranks in.
    """
    layers = adalora_layers(training.model)
    return [
        StepCallback(counters, num_classes(training.model, training.rows), training.rows),
        *([AllocateRanks(layers, steps)] if layers is not None else []),
        *recording_callbacks(training, identity, counters),
        *([ReleaseMemory()] if training.model.device.type == "cpu" else []),
        *([progress] if is_rank0() else []),
    ]


def recording_callbacks(training: Training, identity: str, counters: TrainCounters) -> list[TrainerCallback]:
    """Return the callbacks that write train.jsonl, TensorBoard files and manifests, or stop a training early.

    Only rank 0 gets those for train.jsonl and TensorBoard. Early stopping reads train.jsonl, so it comes
    after the callback that writes the file.
    """
    train, folder = training.train, training.folder
    journal = [Journal(folder), *tensorboard_callbacks(training)] if is_rank0() else []
    early_stopping = [EarlyStopping(RunDir(folder).train_jsonl, train.patience)] if train.patience else []
    return [*journal, *early_stopping, WriteManifest(identity, counters)]


def tensorboard_callbacks(training: Training) -> list[TrainerCallback]:
    """Return [the TensorBoard callback] if `train.report_to` names it and it is installed, else []."""
    if "tensorboard" not in training.train.report_to:
        return []
    if not is_tensorboard_available():  # type: ignore[no-untyped-call]
        log.info("train.report_to: no curves for TensorBoard (pip install tensorboard for them)")
        return []
    callback = TensorBoardCallback()  # type: ignore[no-untyped-call]
    callback.logging_dir = str(RunDir(training.folder).tensorboard)
    return [callback]


def can_join_rows(model: PreTrainedModel | PeftModel, dataset: Dataset) -> bool:
    """Return whether a batch can be its rows concatenated to one sequence, without padding.

    That is possible if the model lets each row attend only to itself; never for a classifier. The test runs
    the model, and leaves it in evaluation mode.

    Raises:
        ConfigError: Several texts are packed into each row, and the model lets them attend to each other.
    """
    if is_classification(dataset):
        return False
    model.eval()
    fault = packing_fault(model, max(dataset["length"]))
    if fault and "position_ids" in dataset.column_names:
        raise ConfigError(
            "data.packing: with this model, the texts packed in a row attend to each other (set it to false)"
        )
    if fault:
        log_once(f"rows are padded instead of joined, and padding is computed like tokens ({fault})")
    return not fault


def num_classes(model: PreTrainedModel | PeftModel, dataset: Dataset) -> int:
    """Return the number of outcomes of a prediction: a classifier's classes, or the vocabulary's tokens.

    A regression has 1.
    """
    config = model.config.get_text_config()
    return cast(int, config.num_labels if is_classification(dataset) else config.vocab_size)


def is_classification(dataset: Dataset) -> bool:
    """Return whether the rows of a data set (at least one) have a class or a number as label, not tokens."""
    return not isinstance(dataset[0]["labels"], list)
