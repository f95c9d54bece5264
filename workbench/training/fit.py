"""Training, from rows to a trained model, over as many sessions as it takes."""

import logging
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback

from workbench.config.train import TrainConfig
from workbench.data.collate import Collator
from workbench.errors import ConfigError, TrainingError
from workbench.training.arguments import total_steps, training_arguments
from workbench.training.batches import Batches
from workbench.training.callbacks import ProgressBar, Seal, Steps
from workbench.training.identity import training_identity
from workbench.training.isolation import keeps_texts_apart
from workbench.training.journal import Journal, journal_lines
from workbench.training.manners import as_before, quiet
from workbench.training.meter import Meter
from workbench.training.resume import Checkpoint, last_sealed, load_weights, newest_good_checkpoint
from workbench.training.trainer import MeteredTrainer, classification_loss

log = logging.getLogger("workbench")


@dataclass(frozen=True)
class TrainReport:
    """What a training did, over all its sessions."""

    steps: int
    epochs: float
    loss_first: float
    """Mean of the first `train.logging_steps` steps."""
    loss_last: float
    """Mean of the last ones."""
    validation_loss: float | None
    tokens: int
    """Real tokens, padding not counted."""
    trained_tokens: int
    """Of these, tokens that a loss fell on; for a classifier, rows."""
    seconds: float
    tokens_per_second: float
    peak_bytes: int
    resumed_from: int | None
    """The step that this session began at; None where it began anew."""


def fit(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train_dataset: Dataset,
    eval_dataset: Dataset | None,
    train: TrainConfig,
    folder: Path,
    seed: int,
    *,
    inputs: str = "",
) -> TrainReport:
    """Train the model's trainable weights, from where an earlier call stopped, and leave them in the model.

    Checkpoints go to `folder`/checkpoints, a line a logged step to train.jsonl, its curve to loss.svg. A call
    that was killed and is repeated ends with the same weights, to the bit, as one that was not.

    Args:
        model: What requires a gradient is trained.
        tokenizer: Its padding token is used.
        train_dataset: As `workbench.data.encode` makes it.
        eval_dataset: Rows whose loss is taken at each checkpoint; None: none.
        train: Steps, rates, batches.
        folder: Of the run.
        seed: Decides the order of the rows and dropout.
        inputs: A fingerprint of what else decides the outcome, such as the frozen weights; checkpoints with
            another one are left.

    Raises:
        TrainingError: The loss became infinite or no number.
    """
    identity = training_identity(model, train_dataset, train, seed, inputs)
    checkpoint = newest_good_checkpoint(folder / "checkpoints", identity)
    meter = Meter.resumed(checkpoint.meter) if checkpoint else Meter()
    with quiet(), as_before(model):
        joined = rows_are_joined(model, train_dataset)
        batches = Batches(train_dataset["length"], train, seed, joined=joined)
        steps = total_steps(len(batches), train)
        if checkpoint and checkpoint.step >= steps:
            log.info("train: all %d steps are done, loaded from %s", steps, checkpoint.path)
            load_weights(model, checkpoint.path)
            return train_report(folder, meter, checkpoint)
        progress = ProgressBar(meter)
        journal = Journal(folder, tensorboard="tensorboard" in train.report_to)
        arguments = training_arguments(
            train,
            folder / "checkpoints",
            seed,
            steps=steps,
            validates=eval_dataset is not None,
            on_cpu=model.device.type == "cpu",
        )
        trainer = MeteredTrainer(
            meter=meter,
            batches=batches,
            model=model,
            args=arguments,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=Collator(tokenizer.pad_token_id, joined),
            compute_loss_func=classification_loss if is_classified(train_dataset) else None,
            callbacks=[Steps(meter), journal, Seal(identity, meter), progress],
        )
        trainer.remove_callback(PrinterCallback)
        run(trainer, progress, checkpoint)
    return train_report(folder, meter, checkpoint)


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


def is_classified(dataset: Dataset) -> bool:
    """Whether the rows have a class each, and no labels on their tokens."""
    return isinstance(dataset[0]["labels"], int)


def run(trainer: MeteredTrainer, progress: ProgressBar, checkpoint: Checkpoint | None) -> None:
    """Train to the end; on the way out for any other reason, say what is kept."""
    if checkpoint:
        log.info("train: going on from step %d", checkpoint.step)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    except KeyboardInterrupt:
        progress.stop()
        kept = last_sealed(Path(str(trainer.args.output_dir)))
        log.warning(
            "train: stopped after step %d; the same command goes on from %s", trainer.state.global_step, kept
        )
        raise
    except TrainingError as error:
        kept = last_sealed(Path(str(trainer.args.output_dir)))
        raise TrainingError(f"{error} (kept: {kept}; a lower train.learning_rate may help)") from error
    finally:
        progress.stop()


def train_report(folder: Path, meter: Meter, checkpoint: Checkpoint | None) -> TrainReport:
    """The account of a finished training."""
    lines = journal_lines(folder / "train.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    validated = [line["validation_loss"] for line in lines if "validation_loss" in line]
    seconds = meter.total_seconds
    return TrainReport(
        steps=lines[-1]["step"],
        epochs=lines[-1]["epoch"],
        loss_first=losses[0],
        loss_last=losses[-1],
        validation_loss=validated[-1] if validated else None,
        tokens=meter.tokens,
        trained_tokens=meter.trained,
        seconds=seconds,
        tokens_per_second=meter.tokens / max(seconds, 1e-9),
        peak_bytes=max(line.get("peak_bytes", 0) for line in lines),
        resumed_from=checkpoint.step if checkpoint else None,
    )
