"""Training, from rows to a trained model, over as many sessions as it takes."""

import logging
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.train import Keep, TrainConfig
from workbench.contexts import quiet_transformers
from workbench.distributed import broadcast_from_rank0, is_rank0, is_sharded
from workbench.errors import ConfigError, TrainingError, first_line
from workbench.file_errors import has_no_room, reason_for_no_room
from workbench.run_dir import RunDir
from workbench.training.build_trainer import Training, assembled
from workbench.training.callbacks import ProgressBar
from workbench.training.checkpoint_checks.content import content_problem, weight_problem
from workbench.training.counters import Meter
from workbench.training.fingerprint import training_identity
from workbench.training.memory_release import keep_few_kernels
from workbench.training.microbatches import is_out_of_memory
from workbench.training.model_state import as_before, put_together
from workbench.training.reporting.journal import best_step, history_of, journal_lines, restored
from workbench.training.resume import (
    Checkpoint,
    complaint,
    is_unsealed,
    last_sealed,
    load_weights,
    newest_good_checkpoint,
)
from workbench.training.trainer import MeteredTrainer, Score

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
    validation_loss_before: float | None
    """Of the weights that it began with."""
    validation_loss: float | None
    """Of the weights that it ended with."""
    score: float | None
    """Of the same, where one was asked for."""
    scores: dict[str, float]
    """What it is made of, by name."""
    kept_step: int
    """Whose weights these are: the last, or the best."""
    tokens: int
    """Real tokens, padding not counted."""
    trained_tokens: int
    """Of these, tokens that a loss fell on; for a classifier, rows."""
    seconds: float
    tokens_per_second: float
    peak_bytes: int
    pieces: int
    """That each micro-batch was cut into in the end, because memory ran out; 1: none."""
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
    score: Score | None = None,
    autocast: torch.dtype | None = None,
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
        inputs: A fingerprint of what else decides the outcome, such as the frozen weights.
        score: Taken at each checkpoint; it then tells the best one, instead of the loss of `eval_dataset`.
        autocast: 16-bit type that float32 weights are multiplied in (mixed precision); None: their own type.

    Raises:
        ConfigError: Settings that this model or these rows can't be trained with, or checkpoints of another
            training in `folder`.
        TrainingError: The loss became infinite or no number.
    """
    keep_few_kernels()
    training = Training(model, tokenizer, train_dataset, eval_dataset, train, folder, seed, score, autocast)
    check(training)
    identity = training_identity(model, train_dataset, train, seed, inputs)
    meter = Meter()
    with quiet_transformers(), as_before(model):
        progress = ProgressBar(meter)
        trainer = assembled(training, identity, meter, progress)
        problem_in = partial(content_problem, trainer=trainer, chooses=train.chooses)
        checkpoint = broadcast_from_rank0(
            lambda: newest_good_checkpoint(RunDir(folder).checkpoints, identity, problem_in)
        )
        if checkpoint:
            meter.resume(checkpoint.meter)
        if checkpoint and checkpoint.is_final:
            log.info("train: all %d steps are done, loaded from %s", checkpoint.step, checkpoint.path)
            load_weights(model, checkpoint.path)
            if is_rank0():
                restored(folder, history_of(checkpoint.path))
        else:
            if checkpoint is None and (before := trainer.loss_before()) is not None:
                meter.validation_before = before
                log.info("train: validation loss %.4f before training", before)
            run(trainer, progress, checkpoint)
            trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # forward without autocast again
            put_together(model)
        step = load_best(model, folder, identity) if train.keep is Keep.best else None
    return broadcast_from_rank0(lambda: train_report(folder, meter, checkpoint, step))


def check(training: Training) -> None:
    """Refuse settings that need what isn't there.

    Raises:
        ConfigError: No adapter for LoRA+, or no evaluation to tell the best checkpoint by.
    """
    model, train = training.model, training.train
    if train.lora_plus_ratio != 1.0 and not isinstance(model, PeftModel):
        raise ConfigError("train.lora_plus_ratio: there is no adapter with matrices A and B (set it to 1)")
    if is_sharded() and model.device.type == "cpu":
        log.warning("train: accelerate's FSDP wants GPUs; here each process holds the whole model (DDP)")
    if train.chooses and training.metric is None:
        key = "keep" if train.keep is Keep.best else "patience"
        raise ConfigError(f"train.{key}: nothing is validated that would tell (set data.validation_fraction)")


def load_best(model: PreTrainedModel | PeftModel, folder: Path, identity: str) -> int | None:
    """Put the weights of the best checkpoint into the model, which holds the last; its step, or None."""
    step = broadcast_from_rank0(lambda: best_step(journal_lines(RunDir(folder).train_jsonl)))
    path = RunDir(folder).checkpoints / f"checkpoint-{step}"
    problem = complaint(path, identity) or weight_problem(path, model)
    if problem:
        log.warning("%s: %s; the last step's weights are kept, not the best", path, problem)
        return None
    log.info("train: the best checkpoint is that of step %d", step)
    load_weights(model, path)
    return step


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
    except (OSError, RuntimeError, MemoryError, SafetensorError) as error:
        if is_out_of_memory(error):
            step = trainer.state.global_step + 1
            raise TrainingError(
                f"train: out of memory at step {step} (recipe=plan says what would fit)"
            ) from error
        checkpoints = Path(str(trainer.args.output_dir))
        unwritten = checkpoints / f"checkpoint-{trainer.state.global_step}"
        if is_unsealed(unwritten):
            shutil.rmtree(unwritten)
        elif has_no_room(error):  # for a line of the journal
            unwritten = checkpoints.parent
        else:
            raise
        kept = last_sealed(checkpoints)
        reason = reason_for_no_room(error) if has_no_room(error) else first_line(error)
        raise TrainingError(
            f"{unwritten}: can't be written, {reason} (kept: {kept}; given room, the same command goes on)"
        ) from error
    finally:
        progress.stop()


def train_report(folder: Path, meter: Meter, checkpoint: Checkpoint | None, best: int | None) -> TrainReport:
    """The account of a finished training; `best` is the step whose weights were kept, None for the last."""
    lines = journal_lines(RunDir(folder).train_jsonl)
    losses = [line["loss"] for line in lines if "loss" in line]
    kept = best or lines[-1]["step"]
    evaluated = {key: value for line in lines if line["step"] == kept for key, value in line.items()}
    seconds = meter.total_seconds
    return TrainReport(
        steps=lines[-1]["step"],
        epochs=lines[-1]["epoch"],
        loss_first=losses[0],
        loss_last=losses[-1],
        validation_loss_before=meter.validation_before,
        validation_loss=evaluated.get("validation_loss"),
        score=evaluated.get("score"),
        scores={name[6:]: value for name, value in evaluated.items() if name.startswith("score/")},
        kept_step=kept,
        tokens=meter.tokens,
        trained_tokens=meter.trained,
        seconds=seconds,
        tokens_per_second=meter.tokens / max(seconds, 1e-9),
        peak_bytes=max(line.get("peak_bytes", 0) for line in lines),
        pieces=meter.pieces,
        resumed_from=checkpoint.step if checkpoint else None,
    )
