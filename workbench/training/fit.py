"""Training, from rows to a trained model, over as many sessions as it takes."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from transformers.utils import logging as transformers_logging

from workbench.config.train import TrainConfig
from workbench.data.collate import Collator
from workbench.errors import TrainingError
from workbench.run_dir import fingerprint
from workbench.training.arguments import total_steps, training_arguments
from workbench.training.callbacks import Journal, ProgressBar, Seal, journal_lines
from workbench.training.meter import Meter
from workbench.training.resume import Checkpoint, last_sealed, load_weights, newest_good_checkpoint
from workbench.training.trainer import MeteredTrainer, classification_loss

log = logging.getLogger("workbench")

NOT_LEARNED = ("logging_steps", "save_steps", "save_total_limit", "report_to")
"""Fields of TrainConfig that leave the trained weights as they are."""


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

    Checkpoints go to `folder`/checkpoints, a line a logged step to `folder`/train.jsonl. A call that was
    killed and is repeated ends with the same weights, to the bit, as one that was not.

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
    steps = total_steps(len(train_dataset), train)
    identity = training_identity(model, train_dataset, train, seed, inputs)
    checkpoint = newest_good_checkpoint(folder / "checkpoints", identity)
    if checkpoint and checkpoint.step >= steps:
        log.info("train: all %d steps are done, loaded from %s", steps, checkpoint.path)
        load_weights(model, checkpoint.path)
        return train_report(folder, Meter.resumed(checkpoint.meter), checkpoint)
    meter = Meter.resumed(checkpoint.meter) if checkpoint else Meter()
    progress = ProgressBar(meter)
    with quiet(), as_before(model):
        trainer = MeteredTrainer(
            meter=meter,
            places=partial(places, train_dataset),
            model=model,
            args=training_arguments(
                train,
                folder / "checkpoints",
                seed,
                steps=steps,
                validates=eval_dataset is not None,
                on_cpu=model.device.type == "cpu",
            ),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=Collator(tokenizer.pad_token_id),
            compute_loss_func=classification_loss if isinstance(train_dataset[0]["labels"], int) else None,
            callbacks=[Journal(folder / "train.jsonl", meter), Seal(identity, meter), progress],
        )
        trainer.remove_callback(PrinterCallback)
        run(trainer, progress, checkpoint)
    return train_report(folder, meter, checkpoint)


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


def training_identity(
    model: PreTrainedModel | PeftModel, dataset: Dataset, train: TrainConfig, seed: int, inputs: str
) -> str:
    """One fingerprint of all that decides the trained weights."""
    trained = {name: (list(p.shape), str(p.dtype)) for name, p in model.named_parameters() if p.requires_grad}
    learned = {key: value for key, value in asdict(train).items() if key not in NOT_LEARNED}
    return fingerprint([trained, learned, rows_fingerprint(dataset), seed, inputs])


def rows_fingerprint(dataset: Dataset) -> str:
    """SHA-256 of the token ids and labels of all rows, in their order."""
    digest = hashlib.sha256()
    for table in dataset.select_columns(["input_ids", "labels"]).with_format("arrow").iter(batch_size=1000):
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        digest.update(sink.getvalue())
    return digest.hexdigest()


def places(dataset: Dataset, rows: Sequence[int]) -> str:
    """The files and lines of some rows, by their numbers."""
    where = dict(zip(dataset["row"], dataset["where"], strict=True))
    return ", ".join(where[row] for row in rows)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers; errors are raised as ever."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def as_before(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Leave the mode of each layer (train or eval), cache and checkpointing as they were before."""
    modes = {module: module.training for module in model.modules()}
    use_cache = model.config.use_cache
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        model.config.use_cache = use_cache
        if model.is_activation_checkpointing:
            model.activation_checkpointing_disable()
